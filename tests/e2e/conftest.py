"""Folders that the e2e tests share, so that data sets and start policies are made once."""

import pytest

from tests.e2e.command import Place


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("e2e"))
