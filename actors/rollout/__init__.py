"""vLLM engines, and the driver's pools that answer and score."""
