"""Ray actors and what they wrap: engines, learners, reward workers, and their pools."""

import os

# A run shows one line a step. What libraries tell at import and their own bars would bury it, and
# they look at these variables when they are first imported.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("WANDB_SILENT", "true")
