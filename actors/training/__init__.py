"""DeepSpeed ranks of GRPO and SFT, and export."""
