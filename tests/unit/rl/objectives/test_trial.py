"""A user's own loss and advantage: those that do, and how others are refused before a run."""

from pathlib import Path

import pytest
import torch

from actors.training.answer_loss import AnswerLoss
from configs.schema.loss import LossConfig
from models.inputs.packing import pack
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.algorithms.training_rows import step_advantages
from rl.console.errors import UserError
from rl.data.records import Problem
from rl.objectives.trial import try_objectives
from tests.repository import ROOT
from tests.unit.step_samples import scored

OWN = """
import torch

def squared(tokens):
    return -tokens.advantages * tokens.ratios + (tokens.ratios - 1) ** 2

def best_only(rewards_PG, tokens_PG):
    best = rewards_PG == rewards_PG.nan_to_num(-1).amax(1, keepdim=True)
    return best.double() / tokens_PG

def one_number(tokens):
    return tokens.ratios.sum()

def detached(tokens):
    return tokens.ratios.detach()

def raises(tokens):
    return tokens.rewards

def infinite(rewards_PG, tokens_PG):
    return rewards_PG / 0

def centred(rewards_PG, tokens_PG):
    return rewards_PG - rewards_PG.nanmean(dim=1, keepdim=True)

def by_group(rewards_PG, tokens_PG):
    return rewards_PG.mean(1)
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "my_objectives.py"
    path.write_text(OWN, "utf-8")
    return str(path)


def test_a_loss_and_an_advantage_of_the_user_s_own_are_what_is_learned_by(own: str) -> None:
    config = LossConfig(policy_loss=f"{own}:squared", advantage=f"{own}:best_only")
    assert (config.clip_low, config.aggregation) == (None, "token_mean")
    try_objectives(config)
    advantages = step_advantages([scored([1.0, 0.5, None, 1.0])], config)
    assert advantages.values_PG.tolist() == [[1.0, 0.0, 0.0, 0.25]]
    assert advantages.useful_PG.tolist() == [[True, True, False, True]]
    answer = TrainingAnswer(0, (3,), 2.0, (-1.0,))
    made = pack((TrainingRow(Problem("p", "?", ("1",)), (7,), (answer,)),), pad_id=0)
    logprobs = torch.tensor([-1.0]) + torch.tensor([1.5]).log()
    loss, figures = AnswerLoss(config)(made, logprobs, torch.zeros(1), torch.zeros(1, 0))
    assert loss.tolist() == pytest.approx([-3.0 + 0.25])
    assert figures["clip_share"].tolist() == [False]


@pytest.mark.parametrize(
    ("key", "function", "told"),
    [
        ("policy_loss", "square", "did you mean squared"),
        ("policy_loss", "one_number", r"returned \(\) for 3 tokens; return a tensor with the loss"),
        ("policy_loss", "detached", "has no gradient"),
        ("policy_loss", "raises", "no attribute 'rewards'.*on a small batch"),
        ("advantage", "infinite", "the advantage must be finite"),
        ("advantage", "by_group", r"returned \(2,\) for rewards of \(2, 3\)"),
    ],
)
def test_what_does_not_do_is_refused_before_a_run(
    own: str, key: str, function: str, told: str
) -> None:
    config = LossConfig.model_validate({key: f"{own}:{function}"})
    with pytest.raises(UserError, match=told):
        try_objectives(config)


def test_equal_rewards_whose_mean_rounds_teach_nothing_by_an_advantage_of_one_s_own(
    own: str,
) -> None:
    config = LossConfig(advantage=f"{own}:centred")
    groups = [[0.9] * 7, [0.1] * 7, [0.9] * 6 + [0.9 + 1e-9]]
    rewards_PG = torch.tensor(groups, dtype=torch.float64)
    assert (rewards_PG - rewards_PG.mean(1, keepdim=True)).any(1).tolist() == [True, True, True]
    advantages = step_advantages([scored(each) for each in groups], config)
    assert advantages.useful_PG.any(1).tolist() == [False, False, True]


def test_a_function_of_one_s_own_reads_no_bounds(own: str) -> None:
    with pytest.raises(ValueError, match="which has no bounds: remove it"):
        LossConfig(policy_loss=f"{own}:squared", clip_low=0.2)


def test_the_functions_in_the_documentation_do(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "algorithms.md").read_text("utf-8")
    path = tmp_path / "my_objectives.py"
    path.write_text(page.partition("```python\n")[2].partition("```")[0], "utf-8")
    try_objectives(LossConfig(policy_loss=f"{path}:kept_close", advantage=f"{path}:per_token"))
