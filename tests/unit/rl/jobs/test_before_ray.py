"""What a run refuses before Ray starts, and what it leaves of an earlier run then."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import AlignRecipe, SFTRecipe
from models.tiny.model import build_tiny_vlm
from rl.console.errors import UserError
from rl.jobs import prepare
from rl.jobs.grpo import grpo_run
from rl.jobs.prepare import with_absolute_folders
from rl.jobs.sft import sft_command
from rl.storage.run_folder import aside_of, take_run_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    build_tiny_vlm(folder, seed=0)
    return folder


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray, which another test of this process may have started, cannot be reached."""

    def asked_for(*_: Any, **__: Any) -> None:
        pytest.fail("Ray was asked for")

    monkeypatch.setattr(ray, "init", asked_for)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe_of(kind: type, folder: Path, **changes: Any) -> Any:
    data = {"source": "digits"} if kind is GRPORecipe else {"source": "digits_direct"}
    said: dict[str, Any] = {"name": "x", "policy": {"path": str(folder)}, "data": data}
    if kind is GRPORecipe:
        said |= {"steps": 1}
    if kind is AlignRecipe:
        said["passes"] = [{"data": said.pop("data")}]
    return kind.model_validate(said | changes)


def grpo(recipe: GRPORecipe) -> None:
    grpo_run(recipe, lambda *_: None, None)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(("run", "kind"), [(grpo, GRPORecipe), (sft_command, SFTRecipe)])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"policy": {"path": "nowhere/at/all"}}, "nowhere/at/all"),
        ({"data": {"source": "./lost.jsonl"}}, "'./lost.jsonl' does not exist"),
        ({"evaluation": {"data": {"source": "./lost.csv"}}}, "'./lost.csv' does not exist"),
        ({"log": {"folder": "/proc/nobody"}}, "/proc/nobody/x, cannot be written"),
    ],
)
def test_what_cannot_be_used_is_refused_before_ray_starts_and_touches_no_earlier_run(
    folder: Path,
    elsewhere: Path,
    run: Callable[[Any], None],
    kind: type,
    changes: dict[str, Any],
    told: str,
) -> None:
    earlier = elsewhere / "runs" / "x" / "metrics.jsonl"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    with pytest.raises(UserError, match=told):
        run(recipe_of(kind, folder, **changes))
    assert list((elsewhere / "runs").rglob("*")) == [earlier.parent, earlier]


@pytest.mark.usefixtures("no_ray", "elsewhere")
@pytest.mark.parametrize(
    ("run", "kind"), [(grpo, GRPORecipe), (sft_command, SFTRecipe), (sft_command, AlignRecipe)]
)
def test_more_ranks_to_a_row_than_divide_the_attention_heads_are_refused_before_ray_starts(
    folder: Path, run: Callable[[Any], None], kind: type
) -> None:
    learner = {"ranks": 3, "sequence_parallel_size": 3}
    told = r"sequence_parallel_size=3 does not divide the policy's 4 .* to one of \[1, 2, 4\]"
    with pytest.raises(UserError, match=told):
        run(recipe_of(kind, folder, learner=learner))


@pytest.mark.usefixtures("no_ray", "elsewhere")
def test_a_setting_of_engines_that_kept_features_decide_is_refused_before_ray_starts(
    folder: Path,
) -> None:
    policy = {"path": str(folder), "train": ["language"]}
    rollout = {"engine_args": {"mm_processor_cache_gb": 4}}
    with pytest.raises(UserError, match=r"mm_processor_cache_gb is decided by features.keep=disk"):
        grpo(
            recipe_of(GRPORecipe, folder, policy=policy, features={"keep": "disk"}, rollout=rollout)
        )


@pytest.mark.parametrize(
    ("keep", "train", "told"),
    [
        ("disk", ["language"], "engines read what is kept of an image, in place of its pixels"),
        ("disk", ["projector"], "engines read pixels"),
        ("memory", ["language"], "engines read pixels"),
    ],
)
def test_a_run_that_keeps_features_says_what_engines_read(
    keep: str, train: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(prepare.CONSOLE, "print", lines.append)
    policy = {"path": "some/model", "train": train}
    asked = recipe_of(GRPORecipe, Path(), policy=policy, features={"keep": keep})
    prepare.check_features(asked, SimpleNamespace(model_type="internvl"))
    (line,) = lines
    assert line.startswith(told) and f"features.keep={keep}" in line


@pytest.mark.parametrize("kind", [GRPORecipe, SFTRecipe, AlignRecipe])
def test_folders_are_absolute_for_actors_that_stand_elsewhere_and_hub_names_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    monkeypatch.chdir(folder.parent)
    placed = with_absolute_folders(recipe_of(kind, Path(folder.name)))
    assert placed.policy.path == str(folder)
    assert placed.run_folder == folder.parent / "runs" / "x"
    named = recipe_of(kind, Path("Skywork/Skywork-R1V-38B"))
    assert with_absolute_folders(named).policy.path == "Skywork/Skywork-R1V-38B"


def test_a_teacher_s_folder_is_absolute_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    loss = {"kind": "distill"}
    recipe = recipe_of(GRPORecipe, folder, teacher={"path": folder.name}, loss=loss)
    placed = with_absolute_folders(recipe)
    assert placed.teacher is not None and placed.teacher.path == str(folder)


@pytest.mark.parametrize(("new", "left"), [(True, ["x", "x-1"]), (False, ["x"])])
def test_rejected_rows_are_listed_beside_until_the_run_takes_its_folder(
    tmp_path: Path, new: bool, left: list[str]
) -> None:
    run = tmp_path / "x"
    (run / "pass_1").mkdir(parents=True)
    (run / "metrics.jsonl").touch()
    (tmp_path / "x.refused").mkdir()
    (tmp_path / "x.refused" / "rejected_old.jsonl").touch()  # of a run that was refused
    aside = aside_of(run)
    (aside / "pass_1").mkdir(parents=True)
    (aside / "pass_1" / "rejected.jsonl").write_text("a row\n")
    take_run_folder(run, aside, new=new)
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert (run / "pass_1" / "rejected.jsonl").read_text() == "a row\n"
    assert (run / "metrics.jsonl").exists() is not new
    assert not list(tmp_path.rglob("rejected_old.jsonl"))


@pytest.mark.usefixtures("no_ray")
def test_replay_of_a_policy_without_experts_is_refused_before_ray_starts(
    folder: Path, elsewhere: Path
) -> None:
    with pytest.raises(UserError, match=r"routing_replay=true: qwen2 is no mixture of experts"):
        grpo(recipe_of(GRPORecipe, folder, rollout={"routing_replay": True}))
