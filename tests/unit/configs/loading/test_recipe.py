"""Recipes are read as they are written, and what is wrong with them is said at once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.jobs.grpo import GRPORecipe
from configs.loading.fields import known_fields
from configs.loading.recipe import RecipeError, find_recipe, load_recipe, read_recipe, recipe_text
from configs.loading.suggest import closest_match
from configs.loading.yaml12 import parse_yaml
from rl.storage.run_folder import save_recipe as save

SMALLEST = "name: small\npolicy: {path: some/model}\ndata: {source: rows.parquet}\n"


def written(folder: Path, text: str = SMALLEST) -> Path:
    path = folder / "small.yaml"
    path.write_text(text, "utf-8")
    return path


def read(folder: Path, *overrides: str, text: str = SMALLEST) -> GRPORecipe:
    return read_recipe(written(folder, text), GRPORecipe, overrides)


def fault(folder: Path, *overrides: str, text: str = SMALLEST) -> str:
    with pytest.raises(RecipeError) as caught:
        read(folder, *overrides, text=text)
    return str(caught.value)


def test_yaml_values_keep_the_types_of_yaml_1_2(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        text=SMALLEST.replace("small", "no")
        + "learner: {optimizer: {lr: 1e-4}, offload: false}\nsteps: 1_000\nprompt: {suffix: on}\n",
    )
    assert (recipe.name, recipe.prompt.suffix) == ("no", "on")
    assert (recipe.learner.optimizer.lr, recipe.steps) == (1e-4, 1000)
    assert recipe.learner.offload is False


def test_the_command_line_overrides_numbers_lists_nulls_and_sections_not_written(
    tmp_path: Path,
) -> None:
    recipe = read(
        tmp_path,
        "steps=7",
        "learner.optimizer.lr=3e-5",
        "policy.train=[language, projector]",
        "data.image_column=null",
        "prompt.system=",
        "evaluation.data.source=held_out.jsonl",
        "data.source=a=b.parquet",
    )
    assert recipe.steps == 7
    assert recipe.learner.optimizer.lr == 3e-5
    assert recipe.policy.train == ("language", "projector")
    assert recipe.policy.path == "some/model", "other fields of the section stay"
    assert recipe.data.image_column is None
    assert recipe.prompt.system is None
    assert recipe.evaluation.data is not None
    assert recipe.evaluation.data.source == "held_out.jsonl"
    assert recipe.data.source == "a=b.parquet"


def test_a_section_set_to_null_in_the_file_can_be_filled_from_the_command_line(
    tmp_path: Path,
) -> None:
    recipe = read(tmp_path, "evaluation.data.source=x.csv", text=SMALLEST + "evaluation: {data: }")
    assert recipe.evaluation.data is not None


def test_one_weight_can_be_changed_without_losing_the_default_others(tmp_path: Path) -> None:
    assert read(tmp_path, "reward.weights.math=0.5").reward.weights == {"math": 0.5, "format": 0.1}
    assert read(tmp_path, "reward.weights={math: 1}").reward.weights == {"math": 1.0}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("max_stalenes=1", "max_staleness"),
        ("rollout.temprature=1", "rollout.temperature"),
        ("kl.coef=0.1", "loss.kl.coef"),
        ("optimizer.lr=0.1", "learner.optimizer.lr"),
        ("zero_stage=3", "learner.zero_stage"),
        ("learner.optimiser.lr=0.1", "learner.optimizer.lr"),
        ("evaluation.data.sourse=x", "evaluation.data.source"),
    ],
)
def test_an_unknown_key_is_refused_with_the_full_name_of_the_nearest(
    tmp_path: Path, wrong: str, meant: str
) -> None:
    told = fault(tmp_path, wrong)
    assert f"{wrong.split('=')[0]} (command line): there is no such field" in told
    assert f"did you mean {meant}?" in told


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rollout.memory_share=0.5", "rollout.gpu_memory_utilization"),
        ("rollout.max_running=8", "rollout.max_num_seqs"),
        ("rollout.eager=true", "rollout.enforce_eager"),
        ("rollout.tensor_parallel=2", "rollout.tensor_parallel_size"),
        ("rollout.cpu_cache_gib=2", "rollout.cpu_kv_cache_gib"),
        ("learner.optimizer.warmup_share=0.1", "learner.optimizer.warmup_ratio"),
    ],
)
def test_a_key_of_an_earlier_recipe_is_refused_with_the_name_that_it_has_now(
    tmp_path: Path, old: str, new: str
) -> None:
    assert f"it is now called {new}" in fault(tmp_path, old)


def test_all_faults_are_told_at_once_each_with_its_place_value_and_rule(tmp_path: Path) -> None:
    told = fault(
        tmp_path,
        "rollout.group_size=1",
        "sync=3",
        "name.x=1",
        text="name: n\ndata:\n  split: 3\n  colour: red\nlearner: {zero_stage: 1, offload: true}",
    )
    path = tmp_path / "small.yaml"
    assert told.startswith("the recipe has 6 faults:")
    assert "rollout.group_size (command line): is 1, but must be greater than or equal to 2" in told
    assert "sync (command line): is 3, but it is a section; set its fields, such as sync." in told
    assert "name.x (command line): name is n, not a section; set name itself" in told
    assert f"data.split ({path}:3): is 3, but must be a valid string; put it in quotes" in told
    assert f"data.colour ({path}:4): there is no such field" in told
    assert f"learner ({path}:5): offload=true with zero_stage=1" in told


def test_rules_between_sections_are_told_as_they_are_written(tmp_path: Path) -> None:
    told = fault(tmp_path, "policy.path=")
    assert "policy.path" in told


def test_a_key_written_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    told = fault(tmp_path, text=SMALLEST + "steps: 3\nsteps: 4\n")
    assert f"{tmp_path / 'small.yaml'}:5: steps stands here and on line 4" in told


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "1: x", "name: {2: x}", "a: &x [*x]\nb: *y"])
def test_text_that_is_no_recipe_is_refused_in_words(tmp_path: Path, text: str) -> None:
    assert str(tmp_path / "small.yaml") in fault(tmp_path, text=text)


@pytest.mark.parametrize("override", ["=3", "a..b=1", "steps=[", ".steps=1"])
def test_a_malformed_override_is_refused_in_words(tmp_path: Path, override: str) -> None:
    assert override.split("=")[0] in fault(tmp_path, override)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@given(name=TEXTS, suffix=TEXTS, lr=st.floats(min_value=1e-30, max_value=1e30))
@settings(deadline=None)
def test_a_resolved_recipe_read_again_is_the_same(name: str, suffix: str, lr: float) -> None:
    recipe = GRPORecipe.model_validate(
        {
            "name": name,
            "policy": {"path": "some/model"},
            "data": {"source": "rows.parquet"},
            "prompt": {"suffix": suffix},
            "learner": {"optimizer": {"lr": lr}},
        }
    )
    again, _ = parse_yaml(recipe_text(recipe), "recipe.yaml")
    assert GRPORecipe.model_validate(again) == recipe


@pytest.mark.parametrize(
    "text", ["1e-6", "no", "007", "null", "3", "true", "~", "2001-01-01", "<<"]
)
def test_a_text_that_looks_like_something_else_stays_a_text(tmp_path: Path, text: str) -> None:
    recipe = read(tmp_path, f'name="{text}"')
    assert recipe.name == text
    assert read_recipe(save(recipe, tmp_path), GRPORecipe).name == text


def test_a_run_folder_names_the_recipe_saved_in_it(tmp_path: Path) -> None:
    saved = save(read(tmp_path), tmp_path / "runs" / "small")
    assert find_recipe(str(tmp_path / "runs" / "small")) == saved
    assert "temperature: 1.0" in recipe_text(read_recipe(saved, GRPORecipe))


def test_flags_overrides_and_recipe_come_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path)
    command = load_recipe(["--resume", "steps=3", str(path)], GRPORecipe, tmp_path / "none.yaml")
    assert (command.recipe.steps, command.resume, command.dry_run) == (3, True, False)
    command = load_recipe(["--dry-run"], GRPORecipe, path)
    assert (command.recipe.name, command.resume, command.dry_run) == ("small", False, True)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--resum"], "did you mean --resume?"),
        (["--steps=3"], "a field is set by steps=3, no dashes"),
        (["one.yaml", "two.yaml"], "one.yaml and two.yaml name more than one recipe"),
        (["nowhere"], "there is no recipe 'nowhere'"),
        (["stepz=3"], "did you mean steps?"),
    ],
)
def test_a_bad_command_ends_with_status_2_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        load_recipe(argv, GRPORecipe, written(tmp_path))
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert told in output.err
    assert not output.out


def test_help_lists_every_field_with_its_type_default_and_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        load_recipe(["--help", "nonsense"], GRPORecipe, Path("default.yaml"))
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for field in known_fields(GRPORecipe):
        assert field.meaning, f"{field.name} has no docstring"
        assert field.meaning in shown
        if field.kind:
            assert f"  {field.name}: {field.kind} = {field.default}\n" in shown
    assert "  rollout.group_size: int >= 2 = 8\n" in shown
    assert "  loss.kl.estimator: k1 | k2 | k3 = k3\n" in shown
    assert "  data.limit: int > 0 | null = null\n" in shown
    assert "  name: text = required\n" in shown
    assert "  learner.optimizer.betas: list of 2: float >= 0, <= 1, float >= 0, <= 1" in shown
    assert "  reward.weights: mapping of text to float >= 0 = {math: 0.9, format: 0.1}\n" in shown


def test_a_name_like_no_other_has_no_nearest() -> None:
    assert closest_match("zzzz", ["steps", "rollout.workers"]) is None


def test_a_fault_that_other_defaults_wait_for_is_told_alone(tmp_path: Path) -> None:
    told = fault(tmp_path, "loss.policy_loss=gsp")
    assert (
        "1 fault" in told
        and "loss.policy_loss (command line): is gsp, which is none of clip, gspo" in told
    )
