"""What a person sees of a run: which figures, and a page of curves and samples for a browser."""
