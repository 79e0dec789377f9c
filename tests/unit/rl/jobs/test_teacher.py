"""What is looked at of a teacher before anything is started."""

from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import AutoProcessor

from configs.jobs.grpo import GRPORecipe
from models.tiny.model import build_tiny_vlm
from rl.console.errors import UserError
from rl.data.records import Problem
from rl.jobs.teacher import TeacherPrompts
from tests.unit.step_samples import recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("policy")
    build_tiny_vlm(made, seed=1)
    return made


def prompts(made: GRPORecipe, folder: Path) -> TeacherPrompts:
    assert made.teacher is not None
    return TeacherPrompts(made, made.teacher, folder)


def distill(**teacher: object) -> GRPORecipe:
    return recipe(
        loss={"kind": "distill"},
        teacher=teacher,
        rollout={"max_new_tokens": 40},
        prompt={"max_tokens": 24},
        learner={"max_tokens_per_microbatch": 63},
    )


def test_a_teacher_with_other_tokens_is_refused_by_their_names(
    folder: Path, tmp_path: Path
) -> None:
    build_tiny_vlm(tmp_path, seed=2)
    prompts(distill(path=str(tmp_path)), folder)
    processor = AutoProcessor.from_pretrained(tmp_path)
    processor.tokenizer.add_tokens([AddedToken("<other>")])
    processor.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"1 tokens differ, as '<other>' \(policy None"):
        prompts(distill(path=str(tmp_path)), folder)


def test_a_teacher_that_is_not_there_is_refused_by_its_key(folder: Path) -> None:
    with pytest.raises(UserError, match=r"teacher.path='\./none' cannot be read"):
        prompts(distill(path="./none"), folder)


def test_a_problem_whose_context_leaves_no_room_for_an_answer_is_set_aside(folder: Path) -> None:
    looked_at = prompts(distill(context="{question} {answer}"), folder)
    looked_at.check(Problem("short", "What?", ("3",)))
    with pytest.raises(ValueError, match=r"teacher.s prompt has .* learner\.max_tokens"):
        looked_at.check(Problem("long", "What?", ("3 " * 40,)))
