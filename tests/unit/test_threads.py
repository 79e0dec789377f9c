"""How many threads a process on a CPU machine gets."""

import pytest

from actors.session import thread_variables


@pytest.mark.parametrize(
    ("cores", "share", "threads", "expected"),
    [(8, 1, None, 8), (8, 2, None, 4), (2, 4, None, 1), (8, 2, 1, 1), (8, 2, 6, 6)],
)
def test_cores_are_divided_unless_the_recipe_says_how_many_threads(
    monkeypatch: pytest.MonkeyPatch, cores: int, share: int, threads: int | None, expected: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    variables = thread_variables(share, threads)
    assert variables == {"OMP_NUM_THREADS": str(expected), "OMP_WAIT_POLICY": "PASSIVE"}
