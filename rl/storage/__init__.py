"""Files: atomic writes, caches, checkpoints, JSONL, the run folder."""
