"""`rl/view.py` makes pages of runs, and says in words where there is nothing to show."""

import re
from pathlib import Path

import pytest

from rl.run_page.html import write_html
from rl.storage.jsonl import JsonlWriter
from rl.view import main
from tests.repository import ROOT
from tests.run_folders import Told, logged_group, write_run
from tests.unit.rl.run_page.test_page import all_rows, handed_over

SOURCES = ROOT / "rl" / "run_page" / "page"


def refusal(*argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(argv))
    return str(ended.value)


def small_run(folder: Path) -> Path:
    return write_run(folder, [[logged_group(0, "p", [Told(("2",))])]])


def test_a_page_is_made_of_what_a_run_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run(tmp_path / "a=b")
    (run / "report.html").unlink()
    main([str(run)])
    said = capsys.readouterr().out
    assert "samples: 1" in said and (run / "report.html").resolve().as_uri() in said
    assert (run / "report.html").is_file()


def test_two_runs_share_a_page_that_finds_both_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = small_run(tmp_path / "x"), small_run(tmp_path / "deep" / "y ä")
    main([str(first), str(second)])
    page = first / "compare_y ä.html"
    assert '["", "../deep/y%20%C3%A4/"]'.replace('"', "&#34;") in page.read_text("utf-8")
    assert page.resolve().as_uri() in capsys.readouterr().out


def test_folders_with_nothing_to_show_are_named_with_what_to_do(tmp_path: Path) -> None:
    assert "is no folder" in refusal(str(tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds neither metrics.jsonl nor answers of an evaluation" in refusal(str(empty))
    small_run(empty / "stage")
    assert str(empty / "stage") in refusal(str(empty))


def test_no_folder_and_three_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folders in ([], ["a", "b", "c"]):
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path / name) for name in folders])
        assert ended.value.code == 2
        assert "runs" in capsys.readouterr().err


def test_an_evaluation_shows_its_answers(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    writer = JsonlWriter(tmp_path / "answers" / "sums.jsonl")
    line = {"problem": "p", "sample": 1, "subjects": ["a"], "question": "?", "gold": ["2"]}
    line |= {"text": "3", "finish_reason": "stop", "tokens": 4, "score": 0.0, "cause": "wrong"}
    writer.write(line | {"detail": "3 is not 2", "vote": "3"})
    writer.close()
    main([str(tmp_path)])
    manifest = handed_over(tmp_path / "report" / "run.js")
    assert (manifest["kind"], manifest["figures"]) == ("answers", 0)
    assert all_rows(tmp_path, "rows") == [["sums", "p", 0.0, "wrong", 4, 1, "stop", 0, 0]]
    (card,) = all_rows(tmp_path, "cards")
    assert card["parts"][0]["detail"] == "3 is not 2"


def test_the_page_asks_for_nothing_outside_and_lets_no_other_script_run(tmp_path: Path) -> None:
    write_html(tmp_path / "page.html", "</title><script>alert(1)</script>", ['"><script>'])
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text.count("<script>") == 1 and "&lt;script&gt;alert" in text
    policy = re.search(r'Security-Policy" content="([^"]+)"', text)
    assert policy and policy[1].startswith("default-src 'none'")
    assert "unsafe" not in policy[1] and "http" not in policy[1]


def test_the_scripts_make_no_markup_out_of_texts() -> None:
    for path in SOURCES.glob("*.js"):
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|https?://(?!www\.w3\.org)",
            path.read_text("utf-8"),
        )
        assert not found, path.name
