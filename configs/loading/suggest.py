"""The known name for an old or a misspelt one."""

import difflib
from collections.abc import Iterable

RENAMED = {
    "batch": "batch_size",
    "cpu_cache_gib": "cpu_kv_cache_gib",
    "eager": "enforce_eager",
    "max_running": "max_num_seqs",
    "memory_share": "gpu_memory_utilization",
    "tensor_parallel": "tensor_parallel_size",
    "tower_batch": "tower_batch_size",
    "warmup_share": "warmup_ratio",
}
"""Keys of earlier recipes, without their sections, and what they are called now."""


def current_name(name: str) -> str:
    """The dotted `name` with its key as it is called now."""
    section, dot, key = name.rpartition(".")
    return f"{section}{dot}{RENAMED.get(key, key)}"


def closest_match(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that a person who wrote the dotted `name` most likely meant."""
    names = list(known)
    same_end = [k for k in names if k.endswith(f".{name}") or k.split(".")[-1] == name]
    close = difflib.get_close_matches(name, same_end or names, n=1, cutoff=0.0 if same_end else 0.6)
    if close:
        return close[0]
    by_last = {k.split(".")[-1]: k for k in reversed(names)}
    close = difflib.get_close_matches(name.split(".")[-1], by_last, n=1, cutoff=0.7)
    return by_last[close[0]] if close else None
