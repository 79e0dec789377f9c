"""The quality of a chain of thought, 0 to 5: by rules, by a judge, by a score cut into grades."""
