"""The final answer in a text, and its normal form."""
