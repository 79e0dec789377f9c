"""Chains of thought: what a question deserves, how long they may be, and their files."""
