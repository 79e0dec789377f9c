"""Which tests go first, and which share a process when several processes run them."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_TOGETHER = {
    "one system": (
        "rollout/test_deaths",
        "rollout/test_parity",
        "rollout/test_serving",
        "weight_transfer/test_sync",
    ),
    "one set of lessons": ("training/test_sft", "training/test_sft_deaths"),
}
"""Files of tests/ray that share what takes long to start."""
_GROUPS = {
    f"tests/ray/actors/{file}.py": group for group, files in _TOGETHER.items() for file in files
}
_LONG = ("tests/e2e/test_grpo.py", "tests/e2e/survival/test_survival.py", *_GROUPS)
"""Begun first, so that no process is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that take long in front, else leave their order."""
    items.sort(key=lambda item: _file(item.nodeid) not in _LONG)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class _ByFile(LoadScopeScheduling):
    """Files go to processes whole, and some of them together."""

    def _split_scope(self, nodeid: str) -> str:
        return _GROUPS.get(_file(nodeid), _file(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Used with -n and any --dist."""
    return _ByFile(config, log)
