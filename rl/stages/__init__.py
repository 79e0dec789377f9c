"""The whole recipe: stages one after another, rounds of fine-tuning, and the table of policies."""
