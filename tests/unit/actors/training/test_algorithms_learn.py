"""Every algorithm, as its recipe has it, makes right answers likelier on a task of two tokens."""

from typing import Any

import pytest
import torch
from torch import Tensor

from actors.training.answer_loss import AnswerLoss
from configs.jobs.grpo import GRPORecipe
from models.inputs.packing import pack
from rl.algorithms.minibatches import UpdatePlan, with_old_logprobs
from rl.algorithms.rows import TrainingRow, count_tokens
from rl.algorithms.training_rows import step_advantages, training_rows
from rl.data.records import Answer, Group, Problem, ScoredGroup
from tests.unit.step_samples import recipe, score

PROBLEMS, TOKENS, GROUP, STEPS = 4, 5, 8, 30
KL_IN_REWARD = {"coef": 0.01, "estimator": "k1", "place": "reward"}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "GRPO": {"aggregation": "sequence_mean"},
    "Dr. GRPO": {"aggregation": "constant", "advantage": "group_mean"},
    "DAPO": {"clip_high": 0.28, "mask_overlong": True},
    "group mean": {"aggregation": "group_mean"},
    # The paper's bounds are for long answers; these have two tokens.
    "GSPO": {"policy_loss": "gspo", "clip_low": 0.2, "clip_high": 0.2},
    "CISPO": {"policy_loss": "cispo"},
    "SAPO": {"policy_loss": "sapo"},
    "DPPO, total variation": {"policy_loss": "dppo_tv"},
    "DPPO, KL": {"policy_loss": "dppo_kl"},
    "RLOO": {"policy_loss": "rloo", "advantage": "rloo", "kl": KL_IN_REWARD},
    "REINFORCE++": {"advantage": "reinforce_plus_plus", "kl": KL_IN_REWARD},
    "with a baseline": {"advantage": "reinforce_plus_plus_baseline"},
    "TIS": {"importance": {}},
    "IcePop": {"importance": {"bound": "mask", "low": 0.5, "high": 5.0}},
}


def sampled(logits_PV: Tensor, chance: torch.Generator) -> list[ScoredGroup]:
    """Groups of answers of two tokens, right where the first is the problem's number; engines that
    are a little off say what they drew with."""
    groups: list[ScoredGroup] = []
    for problem, logits_V in enumerate(logits_PV):
        off_V = torch.log_softmax(logits_V + 0.05 * torch.randn(TOKENS, generator=chance), -1)
        ids_GT = torch.multinomial(off_V.exp().expand(GROUP, -1), 2, True, generator=chance)
        answers = tuple(
            Answer(tuple(ids), tuple(off_V[ids].tolist()), "", "stop", 0) for ids in ids_GT.tolist()
        )
        scores = tuple(score(float(a.token_ids[0] == problem), "wrong") for a in answers)
        even = ((-torch.tensor(float(TOKENS)).log().item(),) * 2,) * GROUP
        group = Group(Problem(str(problem), "?", ("1",)), (7,), answers)
        groups.append(ScoredGroup(group, scores, reference_logprobs=even))
    return groups


def told(logits_PV: Tensor, rows: list[TrainingRow]) -> Tensor:
    """float32 [N] logprobs of the rows' answers' tokens."""
    logprobs_PV = torch.log_softmax(logits_PV, -1)
    places = [(int(r.problem.id), t) for r in rows for a in r.answers for t in a.token_ids]
    return torch.stack([logprobs_PV[place] for place in places])


def step(made: GRPORecipe, logits_PV: Tensor, groups: list[ScoredGroup]) -> None:
    """The updates of a step by plain gradient descent."""
    plan = UpdatePlan.of(made)
    rows = training_rows(groups, step_advantages(groups, made.loss))
    batches = plan.split(rows) if rows else []
    late = plan.met_late(batches)
    known = {
        answer.index: tuple(told(logits_PV.detach(), [row])[2 * i : 2 * i + 2].tolist())
        for row in late
        for i, answer in enumerate(row.answers)
    }
    for batch in batches * plan.epochs:
        rows = with_old_logprobs(batch, known)
        logprobs_N = told(logits_PV, rows)
        packed = pack(tuple(rows), pad_id=0)
        zeros_N = torch.zeros_like(logprobs_N)
        loss_N, _ = AnswerLoss(made.loss)(packed, logprobs_N, zeros_N, zeros_N[:, None][:, :0])
        (gradient,) = torch.autograd.grad(loss_N.sum() / count_tokens(rows), logits_PV)
        logits_PV.data -= 0.7 * gradient


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_learns_in_several_updates_a_step(name: str) -> None:
    loss = ALGORITHMS[name] | ({"kl": {"coef": 0.01}} if "kl" not in ALGORITHMS[name] else {})
    learner = {"minibatches": 2, "epochs": 2}
    rollout = {"max_new_tokens": 2, "group_size": GROUP}
    made = recipe(loss=loss, learner=learner, rollout=rollout, problems_per_step=PROBLEMS)
    chance = torch.Generator().manual_seed(5)
    logits_PV = torch.zeros(PROBLEMS, TOKENS, requires_grad=True)
    for _ in range(STEPS):
        step(made, logits_PV, sampled(logits_PV.detach(), chance))
    right_P = torch.softmax(logits_PV.detach(), -1).diagonal()
    assert right_P.min() > 0.6, right_P
