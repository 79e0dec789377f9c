"""The commands that assemble and convert: what they show, write, and refuse."""

from pathlib import Path
from typing import Any

import pytest

from rl.assemble import main as assemble
from rl.console.errors import UserError
from rl.convert import main as convert
from tests.unit.models.assembly.chat_model import build_chat_model
from tests.unit.models.assembly.parts import build_internvit, build_llm, config_of


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    build_internvit(tmp_path / "eye")
    build_llm(tmp_path / "llm")
    return tmp_path


def words(parts: Path, **named: str) -> list[str]:
    return [f"{key}={parts / value}" for key, value in named.items()]


def test_parts_become_a_model_and_the_model_takes_another_language_model(
    parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assemble([*words(parts, vision="eye", llm="llm", out="r1v"), "options.max_tiles=3"])
    assert "4 tokens added, 4 tokens a tile" in capsys.readouterr().out
    assert config_of(parts / "r1v")["model_type"] == "internvl"
    assemble(words(parts, base="r1v", llm="llm", out="swapped"))
    assert config_of(parts / "swapped") == config_of(parts / "r1v")


def test_a_checkpoint_is_converted_and_what_is_not_seen_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_chat_model(tmp_path / "chat")
    convert([*words(tmp_path, source="chat", out="ours"), "layout=transformers"])
    assert "kept for the way back" in capsys.readouterr().out
    convert([*words(tmp_path, source="ours", out="back"), "layout=skywork"])
    assert config_of(tmp_path / "back")["architectures"] == ["SkyworkR1VChatModel"]


def test_a_dry_run_shows_what_it_would_write_and_writes_nothing(
    parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assemble([*words(parts, vision="eye", llm="llm", out="r1v"), "--dry-run"])
    assert "tensors" in capsys.readouterr().out
    assert sorted(path.name for path in parts.iterdir()) == ["eye", "llm"]


@pytest.mark.parametrize(
    ("named", "more", "reason"),
    [
        ({"vision": "eye", "llm": "llm", "out": "llm"}, [], "is there already"),
        ({"base": "llm", "llm": "llm", "out": "r1v"}, [], "not an assembled one"),
        ({"vision": ".", "llm": "llm", "out": "r1v"}, [], "holds no config.json"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    parts: Path, named: dict[str, str], more: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit, match=reason):
        assemble([*words(parts, **named), *more])


def test_a_fault_of_ours_is_not_told_as_the_user_s(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_line(plan: object) -> str:
        raise ValueError("a bug")

    monkeypatch.setattr("rl.jobs.assembly.plan_line", plan_line)
    with pytest.raises(ValueError, match="a bug") as kept:
        assemble(words(parts, vision="eye", llm="llm", out="r1v"))
    assert not isinstance(kept.value, UserError)


@pytest.mark.parametrize(
    ("command", "argv", "reason"),
    [
        (assemble, ["vision=a", "base=b", "llm=c", "out=d"], "not both"),
        (assemble, ["base=b", "llm=c", "out=d", "options.max_tiles=2"], "brings its own"),
        (assemble, ["vision=a", "llm=c", "out=d", "options.min_tiles=20"], "more than max_tiles"),
        (assemble, ["vision=a", "llm=c", "out=d", "--resume"], "no option '--resume'"),
        (convert, ["source=a", "out=b", "layout=llava"], "layout"),
        (convert, ["out=b", "layout=skywork"], "source (command line): is not set"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_with_its_reason(
    command: Any, argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(argv)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
