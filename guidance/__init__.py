"""Guidance: where a picture should go, and the loop that takes it there."""
