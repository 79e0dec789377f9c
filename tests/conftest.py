"""Which tests share a process when several processes run them."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_TOGETHER = {
    "one system": ("deaths", "parity", "serving", "sync"),
    "one set of lessons": ("sft", "sft_deaths"),
}
"""Files of tests/ray that share what takes long to start."""
_GROUPS = {
    f"tests/ray/test_{file}.py": group for group, files in _TOGETHER.items() for file in files
}


class _ByFile(LoadScopeScheduling):
    """Files go to processes whole, and some of them together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _GROUPS.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Used with -n and any --dist."""
    return _ByFile(config, log)
