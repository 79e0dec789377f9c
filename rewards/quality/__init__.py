"""Grades of whole chains of thought, 0 to 5."""
