"""A trace of one update, by torch's profiler."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from configs.schema.learner import ProfileConfig
from rl.storage.atomic import atomic_file


@contextmanager
def traced_update(
    config: ProfileConfig | None, step: int, rank: int, folder: Path
) -> Generator[None]:
    """Trace what is done inside where the recipe asks for this update of this rank.

    The trace is written to `folder`/step_STEP_rank_RANK.json, for https://ui.perfetto.dev or
    chrome://tracing.

    Args:
        step: the learner's update, the first is 1.
    """
    if config is None or (config.step, config.rank) != (step, rank):
        yield
        return
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        yield
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / f"step_{step}_rank_{rank}.json") as aside:
        found.export_chrome_trace(str(aside))
