"""What an answer says: its tokens, its tree, its values, and whether two answers agree."""
