"""Programs that make the pocket models: data, scenes and the trainings themselves."""
