"""Configuration: the schema of a recipe and how one is read."""
