"""From YAML and overrides to a checked recipe; knows no schema."""
