"""Supervised chats about the built-in digits, made of the problems that GRPO is trained on.

digits-align        pictures: which digits are they, and what is their sum, answered at once
digits-chains       pictures: their sum, thought out
digits-chains-text  the same, each fourth chat in words alone
digits-styles       pictures: their sum, at once and thought out by turns
digits-text-styles  words alone: the same
digits-pairs        pictures: their sum, thought out; preferred to a chain that misreads one digit

Row n asks about the n-th problem of the split, up to `MOST_CHATS` of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl.digits import problems as digits
from rl.digits.wording import LIST, AnswerStyle, answer_text
from rl.storage.cache import cache_folder, code_digest, get_or_build

MOST_CHATS = 4096
"""More would only take longer to check: all show the same scans."""
PAIRS = "digits-pairs"
"""Preference pairs."""
_Kind = tuple[str, AnswerStyle]
"""Data set of the problem, and style of the answer."""
_KINDS: dict[str, tuple[_Kind, ...]] = {
    "digits-align": (("digits", "list"), ("digits", "plain")),
    "digits-chains": (("digits", "chain"),),
    "digits-chains-text": (
        ("digits", "chain"),
        ("digits", "chain"),
        ("digits", "chain"),
        ("digits-text", "chain"),
    ),
    "digits-styles": (("digits", "plain"), ("digits", "chain")),
    "digits-text-styles": (("digits-text", "plain"), ("digits-text", "chain")),
    PAIRS: (("digits", "chain"),),
}
NAMES: tuple[str, ...] = tuple(_KINDS)


def chats_path(name: str, split: str) -> Path:
    """The parquet file of a built-in set of chats; written where it is not there.

    Columns: `id`, `prompt`, `completion`, and where there are pictures `image` (PNG, or null).
    Pairs have `chosen` and `rejected` in place of `completion`.

    Raises:
        ValueError: there is no such set or split.
    """
    if name not in NAMES:
        raise ValueError(f"there are no built-in chats {name!r}; the names are {NAMES}")
    sources = {source: digits.dataset_path(source, split) for source, _ in _KINDS[name]}
    digest = code_digest((__file__,), *(path.parent.name for path in sources.values()))
    folder = cache_folder() / "data" / f"{name}-{split}-{digest}"
    return get_or_build(folder, lambda aside: _write(aside, name, sources)) / "chats.parquet"


def _write(folder: Path, name: str, sources: dict[str, Path]) -> None:
    import pyarrow.parquet as pq
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageColumn

    kinds = _KINDS[name]
    problems = {
        source: pq.read_table(path).slice(0, MOST_CHATS).to_pylist()
        for source, path in sources.items()
    }
    said = ("chosen", "rejected") if name == PAIRS else ("completion",)
    features: dict[str, Any] = {column: Value("string") for column in ("id", "prompt", *said)}
    features |= {"image": ImageColumn()} if "digits" in problems else {}
    rows: list[dict[str, Any]] = []
    for number in range(min(len(each) for each in problems.values())):
        source, style = kinds[number % len(kinds)]
        problem = problems[source][number]
        row = {
            "id": f"{name}-{number}",
            "prompt": LIST if style == "list" else problem["question"],
            **dict.fromkeys(said, answer_text(problem["digits"], style)),
            "image": problem.get("image"),
        }
        if name == PAIRS:
            row["rejected"] = answer_text(_misread(problem["digits"], number), style)
        rows.append({column: row[column] for column in features})
    Dataset.from_list(rows, features=Features(features)).to_parquet(folder / "chats.parquet")


def _misread(digits: Sequence[int], number: int) -> list[int]:
    """The digits with one of them, by turns, read as the next."""
    place = number % len(digits)
    return [(digit + 1) % 10 if i == place else digit for i, digit in enumerate(digits)]
