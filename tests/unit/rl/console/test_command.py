"""What every command does: read its recipe, work, and end in words or with a traceback."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from configs.jobs.commands import READS
from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import Command
from configs.schema.base import StrictModel
from configs.schema.run import RunRecipe, TrainingRecipe
from rl.console.command import run_command
from rl.console.errors import UserError
from tests.commands import COMMANDS


class Errand(StrictModel):
    """A recipe of one field."""

    steps: int = 3


def run(*argv: str, **options: Any) -> list[Command[Errand]]:
    """What the command's work was given."""
    done: list[Command[Errand]] = []
    run_command(argv, Errand, done.append, default=None, **options)
    return done


def test_the_work_is_given_the_recipe_and_the_flags() -> None:
    assert run("steps=5", "--resume") == [Command(Errand(steps=5), resume=True, dry_run=False)]


@pytest.mark.parametrize(
    ("schema", "left", "resumes"),
    [
        (TrainingRecipe, [], False),
        (TrainingRecipe, ["metrics.jsonl", "recipe.yaml"], False),
        (TrainingRecipe, ["checkpoints/step_000002/state.json"], True),
        (TrainingRecipe, ["pass_1/checkpoints/step_000002/state.json"], True),
        (RunRecipe, ["rejected.jsonl"], False),
        (RunRecipe, ["recipe.yaml"], True),
    ],
)
def test_a_job_that_may_come_again_goes_on_where_there_is_something_to_go_on_from(
    schema: type[RunRecipe], left: list[str], resumes: bool, tmp_path: Path
) -> None:
    for name in left:
        (tmp_path / "again" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "again" / name).touch()
    done: list[Command[RunRecipe]] = []
    words = ["name=again", f"log.folder={tmp_path}", "--resume-or-start"]
    run_command(words, schema, done.append, default=None)
    assert [command.resume for command in done] == [resumes]


def test_a_dry_run_does_not_work_and_shows_the_recipe_or_what_the_command_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--dry-run") == []
    assert capsys.readouterr().out == "steps: 3\n\n"
    rehearsed: list[Errand] = []
    assert run("--dry-run", "steps=4", dry_run=rehearsed.append) == []
    assert rehearsed == [Errand(steps=4)]


def test_a_flag_that_the_command_does_not_have_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--resume", flags=("--dry-run", "--help"))
    assert ended.value.code == 2
    assert "there is no option '--resume'" in capsys.readouterr().err


def test_an_error_of_the_user_ends_in_words_and_one_of_ours_with_its_traceback() -> None:
    def fails(error: Exception) -> None:
        def work(command: Command[Errand]) -> None:
            raise error

        run_command((), Errand, work, default=None)

    with pytest.raises(SystemExit) as ended:
        fails(UserError("policy.path='x' holds no model"))
    assert ended.value.code == "policy.path='x' holds no model"
    with pytest.raises(ValueError, match="a bug"):
        fails(ValueError("a bug"))


def test_a_recipe_of_another_command_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(["digits_sft", "steps=3"], GRPORecipe, print, default="digits")
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert re.fullmatch(
        r"(\S+/digits_sft.yaml) is a recipe of another command: run python rl/sft.py \1\n", told
    )


def test_each_command_is_known_with_the_recipe_that_it_reads() -> None:
    modules = {name: vars(import_module(f"rl.{name}")) for name in READS}
    assert {recipe: modules[name]["main"] for name, recipe in READS.items()} == COMMANDS
