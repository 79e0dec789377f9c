"""Quietens libraries that look at these variables when they are first imported.

A run shows one line a step; what libraries tell at import, and their own bars, would bury it.
"""

import os

_VARIABLES = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "WANDB_SILENT": "true",
}


def quieten_libraries() -> None:
    """Set each variable that the user has not set, here and for processes started from here."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
