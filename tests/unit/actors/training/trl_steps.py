"""One step on the same answers of the same model: what TRL's own trainers make of it, and ours."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from actors.training.answer_loss import AnswerLoss
from configs.jobs.grpo import GRPORecipe
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from models.policy.policy import Policy
from rl.algorithms.minibatches import UpdatePlan, with_old_logprobs
from rl.algorithms.rows import build_microbatches, count_tokens
from rl.algorithms.training_rows import step_advantages, training_rows
from rl.data.records import Answer, Group, Problem, ScoredGroup
from tests.unit.step_samples import score

PROMPTS = ((5, 6, 7), (8, 9, 10, 11, 12), (13, 14))
LENGTHS = ((4, 7, 1), (2, 9, 5), (3, 6, 8))
"""Tokens of each answer to the prompts."""
LONGEST = 9
"""The one answer that is so long was cut off."""
REWARDS = ((1.0, 0.1, 0.4), (0.0, 0.9, 1.0), (0.7, 0.7, 0.7))
"""The last group is flat."""

Loss = tuple[float, dict[str, Tensor]]
"""A step's loss and its gradient by the weights' names."""


@dataclass(frozen=True)
class Batch:
    """Answers to the prompts, group by group; of each what different policies think of it."""

    answers: Sequence[Tensor]
    old: Sequence[Tensor] = ()
    sampler: Sequence[Tensor] = ()
    """Where it is not the old policy itself."""
    reference: Sequence[Tensor] = ()

    def first(self, groups: int) -> "Batch":
        """The batch of the first groups alone."""
        count = 3 * groups
        sides = (self.answers, self.old, self.sampler, self.reference)
        return Batch(*(side[:count] for side in sides))

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Each answer's."""
        return [PROMPTS[place // 3] for place in range(len(self.answers))]

    def groups(self, *, corrected: bool) -> list[ScoredGroup]:
        """As engines and rewards give them; `corrected`: sampler and old policy are two."""
        sampler = self.sampler if corrected else self.old
        groups: list[ScoredGroup] = []
        for number in range(len(self.answers) // 3):
            places = range(3 * number, 3 * number + 3)
            answers = tuple(
                Answer(
                    tuple(self.answers[place].tolist()),
                    tuple(sampler[place].tolist()),
                    "",
                    "length" if len(self.answers[place]) == LONGEST else "stop",
                    0,
                )
                for place in places
            )
            group = Group(Problem(str(number), "?", ("1",)), PROMPTS[number], answers)
            scores = tuple(score(reward) for reward in REWARDS[number])
            reference = tuple(tuple(self.reference[place].tolist()) for place in places)
            groups.append(ScoredGroup(group, scores, reference_logprobs=reference))
        return groups


def random_batch(policy: Policy, encoder: InputEncoder, end: int) -> Batch:
    """Random answers, whose last token is `end` but of the one that was cut off; the other policies
    are near the one that learns."""
    chance = torch.Generator().manual_seed(7)
    lengths = [length for group in LENGTHS for length in group]
    answers = [torch.randint(40, 300, (length,), generator=chance) for length in lengths]
    for answer in answers:
        if len(answer) < LONGEST:
            answer[-1] = end
    zeros = [torch.zeros(length) for length in lengths]
    groups = Batch(answers, zeros, zeros, zeros).groups(corrected=False)
    scored = [replace(g, scores=(score(0.0), score(1.0), score(0.5))) for g in groups]
    made = GRPORecipe.model_validate(
        {"name": "all", "data": {"source": "-"}, "policy": {"path": "-"}}
    )
    rows = training_rows(scored, step_advantages(scored, made.loss))
    with torch.no_grad():
        logprobs = policy(pack(tuple(rows), encoder.pad_id))[0].split(lengths)
    near = [
        [own + 0.3 * torch.randn(len(own), generator=chance) for own in logprobs] for _ in range(3)
    ]
    return Batch(answers, *near)


def gradient_of(policy: Policy, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*policy.model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters)
    return dict(zip(names, found, strict=True))


def ours(made: GRPORecipe, policy: Policy, encoder: InputEncoder, batch: Batch) -> Loss:
    """The step's loss and gradient, in micro-batches for two ranks."""
    corrected = made.loss.importance is not None
    groups = batch.groups(corrected=corrected)
    (rows,) = UpdatePlan.of(made).split(training_rows(groups, step_advantages(groups, made.loss)))
    if corrected:
        old = {place: tuple(each.tolist()) for place, each in enumerate(batch.old)}
        rows = with_old_logprobs(rows, old)
    loss, total = AnswerLoss(made.loss), torch.zeros(())
    for rank in build_microbatches(rows, 24, ranks=2):
        for microbatch in rank:
            packed = pack(microbatch, encoder.pad_id)
            if made.loss.kl.coef == 0:
                packed = replace(packed, reference_logprobs=None)
            loss_N, _ = loss(packed, *policy(packed))
            total = total + (loss_N * packed.weights).sum() / count_tokens(rows)
    return total.item(), gradient_of(policy, total)


def trainer_of(kind: type, policy: Policy, tokenizer: Path, folder: Path) -> Any:
    """TRL's trainer around the same model; what differs from test to test is set on it."""
    config = {GRPOTrainer: GRPOConfig, RLOOTrainer: RLOOConfig}[kind](
        str(folder),
        use_cpu=True,
        bf16=False,
        report_to=[],
        num_generations=3,
        per_device_train_batch_size=9,
        max_completion_length=LONGEST,
        gradient_checkpointing=False,
    )
    return kind(
        policy.model,
        lambda completions, **_: [0.0] * len(completions),
        config,
        Dataset.from_list([{"prompt": "1"}] * 9),
        processing_class=AutoTokenizer.from_pretrained(tokenizer),
    )


_REFERENCE = object()


def theirs(trainer: Any, policy: Policy, batch: Batch, settings: dict[str, Any]) -> Loss:
    """What TRL makes of the batch with these of its settings: advantages, masks and importance
    weights too. Who answers, who scores, and what old policy and reference think, is given."""
    # Two iterations, so that the old policy is asked for what it thinks.
    for name, value in {"num_iterations": 2, **settings}.items():
        for place in (trainer, trainer.args):  # some are read here, some there
            setattr(place, name, value)
    trainer.ref_model = _REFERENCE
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    rewards = [reward for group in REWARDS for reward in group][: len(batch.answers)]
    prompts, answers = (
        [list(ids) for ids in each]
        for each in (batch.prompts, [answer.tolist() for answer in batch.answers])
    )
    texts = [""] * len(answers)
    generated = (prompts, answers, texts)
    if isinstance(trainer, GRPOTrainer):
        sampled = [each.tolist() for each in batch.sampler]
        generated = (prompts, answers, None, texts, sampled, {}, None, [])

    def thought(model: Any, *_: Any, **__: Any) -> tuple[Tensor, None, None]:
        of = batch.reference if model is _REFERENCE else batch.old
        return pad_sequence(list(of), batch_first=True), None, None

    with (
        patch.object(trainer, "_generate", lambda _: generated),
        patch.object(trainer, "reward_funcs", [lambda **_: rewards]),
        patch.object(trainer, "_get_per_token_logps_and_entropies", thought),
    ):
        inputs = trainer._generate_and_score_completions([{"prompt": "1"}] * len(answers))
    loss = trainer._compute_loss(policy.model, inputs)
    return loss.item(), gradient_of(policy, loss)
