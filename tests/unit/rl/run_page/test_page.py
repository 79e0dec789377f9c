"""A page grows with its run by new files alone, and is what a rebuilt one would be."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.jobs.view import ViewRecipe
from rl.run_log.samples import LoggedGroup
from rl.run_page import page, parts
from rl.run_page.build import view_runs
from tests.run_folders import Told, logged_group, write_run


def handed_over(path: Path) -> Any:
    """What a script hands to the page."""
    before, _, after = path.read_text("utf-8").partition("runPage.take(")
    assert not before and after.endswith(");\n")
    return json.loads(after.removesuffix(");\n"))


def all_rows(run: Path, name: str) -> list[Any]:
    files = sorted((run / "report").glob(f"{name}_*.js"))
    return [row for path in files for row in handed_over(path)]


def groups(step: int, count: int = 2, words: int = 3) -> list[LoggedGroup]:
    told = [Told(("ab ",) * words, reward=0.5, cause="wrong", lag=1), Told(("c",))]
    return [logged_group(step, f"p{step}-{place}", told) for place in range(count)]


def test_every_sample_has_a_row_that_leads_to_its_card(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [groups(0), groups(1)])
    manifest = handed_over(run / "report" / "run.js")
    assert manifest["samples"] == 8 and manifest["kind"] == "rollouts"
    keys = [column["key"] for column in manifest["columns"]]
    rows = [dict(zip([*keys, "part", "place"], row, strict=True)) for row in all_rows(run, "rows")]
    assert [(row["step"], row["name"]) for row in rows[::2]] == [
        (0, "p0-0"),
        (0, "p0-1"),
        (1, "p1-0"),
        (1, "p1-1"),
    ]
    first = rows[0]
    assert (first["reward"], first["verdict"], first["tokens"]) == (0.5, "wrong", 3)
    assert (first["staleness"], first["advantage"], first["gap"]) == (1, None, None)
    for row in rows:
        card = handed_over(run / "report" / f"cards_{row['part']:04d}.js")[row["place"]]
        assert card["said"][0]["text"] == ("ab ab ab " if row["verdict"] == "wrong" else "c")
    assert [line["reward"] for line in all_rows(run, "figures")] == [0.5, 0.6]
    assert [line["accuracy"] for line in manifest["evaluations"]] == [0.25]


def test_full_parts_are_never_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "READ_WHEN_SHOWN", 2000)
    written: list[str] = []
    original = parts.write_script

    def noted(path: Path, payload: str) -> None:
        written.append(path.name)
        original(path, payload)

    monkeypatch.setattr(parts, "write_script", noted)
    write_run(tmp_path / "noted", [groups(step) for step in range(6)])
    cards = [name for name in written if name.startswith("cards_")]
    assert cards == sorted(cards), "a later step wrote an earlier part"
    assert len(set(cards)) > 4


def test_a_rebuilt_page_is_the_one_that_grew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "READ_WHEN_SHOWN", 800)
    run = write_run(tmp_path / "run", [groups(step) for step in range(4)])

    def files() -> dict[str, bytes]:
        folder = run / "report"
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.js"}

    grown, manifest = files(), handed_over(run / "report" / "run.js")
    assert len(grown) > 6
    view_runs(ViewRecipe(runs=(str(run),)))
    assert files() == grown
    again = handed_over(run / "report" / "run.js")
    assert {**again, "written": 0} == {**manifest, "written": 0}


def test_a_run_that_goes_on_tells_no_step_twice_and_leaves_no_part_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "READ_WHEN_SHOWN", 1000)
    run = write_run(tmp_path / "run", [groups(step, 4) for step in range(4)])
    many = len(list((run / "report").glob("cards_*.js")))
    write_run(run, [groups(1, 1)], resume=1)
    assert len(list((run / "report").glob("cards_*.js"))) < many
    assert [line["step"] for line in all_rows(run, "figures")] == [0, 1]
    assert [row[1] for row in all_rows(run, "rows")][::2] == [
        *(f"p0-{place}" for place in range(4)),
        "p1-0",
    ]


def test_a_run_whose_recipe_wants_no_page_writes_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [groups(0)], log={"report": False})
    assert not (run / "report").exists() and not (run / "report.html").exists()


def test_half_a_character_and_line_ends_of_unicode_spoil_no_script(tmp_path: Path) -> None:
    odd = "half \udce2 line\u2028end"
    run = write_run(tmp_path / "run", [[logged_group(0, "p", [Told((odd,))])]])
    (card,) = all_rows(run, "cards")
    assert card["said"][0]["text"] == odd and card["by_token"]["text"] == [odd]


def test_lines_of_no_known_kind_are_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [groups(0, 1)])
    with (run / "samples.jsonl").open("a") as file:
        file.write('{"step": 0, "odd": 1}\n{"step": 0, "verdicts": {}}\n')
    view_runs(ViewRecipe(runs=(str(run),)))
    manifest = handed_over(run / "report" / "run.js")
    assert (manifest["samples"], manifest["odd"]) == (2, 2)
