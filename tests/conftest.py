"""Which tests share a process when several processes run them."""

import pytest

_STARTED_ONCE = ("shared_system", "lessons")
"""Fixtures that take so long to make that all tests which ask for one go together."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the group of the fixture that it needs, or of its file."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        shared = next((name for name in _STARTED_ONCE if name in fixtures), None)
        own = f"{item.path.parent.name}.{item.path.stem}"
        item.add_marker(pytest.mark.xdist_group(shared or own))
