"""What an answer says: from its text to its tree."""
