"""Values of trees, and whether two answers agree."""
