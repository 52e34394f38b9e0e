"""How fast the engine is, and how much memory it takes: see README.md beside this file."""
