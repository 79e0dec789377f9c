"""Takes tiny policies of families the way of a run, all in this process, and prints what came of
each as a line of JSON. Arguments: the families' names.

Engines, learners and transports are a run's own; what is left out is Ray's actors, whose start for
each family would cost half a minute.
"""

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "WORLD_SIZE": "1",
    "RANK": "0",
    "LOCAL_RANK": "0",
}

import torch
from safetensors.torch import load_file
from transformers import AutoConfig
from vllm.v1.engine.llm_engine import LLMEngine

from actors.rollout.vllm_engine import engine_args, sampling_params, with_experts
from actors.training.answer_loss import AnswerLoss
from actors.training.deepspeed_engine import DeepSpeedEngine
from actors.training.export import export_policy
from actors.training.update import Update
from actors.weight_transfer.gloo import GlooTrainer, GlooTrainerInit, register
from actors.weight_transfer.policy_source import PolicySource
from actors.weight_transfer.sync import _by_group
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack, pack_chats
from models.policy.families import check_packing, check_sync
from models.policy.loading import build_policy, load_model
from models.policy.policy import Policy, logprobs_by_answer
from models.policy.weight_sums import WeightSums, compare_sums
from rl.algorithms.parity import check_logprobs, check_prompts, parity_rows
from rl.algorithms.rows import TrainingRow, count_tokens
from rl.data.records import Answer, Chat, Group, Problem, SamplingRequest, Turn
from tests.families import FAMILIES
from tests.own_choices import own_choices
from tests.ray.actors.rollout.served import PICTURES
from tests.ray.system import learned_from, mean_gap, problem, recipe, token_gaps

GAP = 1e-4
"""Nats between sampler and learner, at most."""


LONG = replace(problem(1, images=0), question="What is the sum of " + "1, " * 40 + "and 5?")
"""A question of several blocks of vLLM's cache."""

_LEFT_RUNNING: list[LLMEngine] = []
"""An engine that ends takes the process group along, which learners share."""


class Engine:
    """A vLLM engine in this process, which is also the transport's client of it."""

    def __init__(self, folder: Path, plan: Any, encoder: InputEncoder) -> None:
        own = (plan.policy, plan.prompt, plan.rollout, "gloo")
        args = engine_args(folder, *own, has_vision=encoder.has_vision)
        self._engine = LLMEngine.from_engine_args(args)
        self._tells_experts = plan.rollout.tells_experts
        _LEFT_RUNNING.append(self._engine)
        self._encoder = encoder
        self._asked = 0
        self.cached = 0
        """Tokens of prompts that were found in the cache."""

    def sample(
        self, problems: Sequence[Problem], temperature: float = 1.0, frozen_at: int | None = None
    ) -> list[Group]:
        """Two answers to each; behind `frozen_at` steps all are frozen, and read again to go on."""
        request = SamplingRequest(2, temperature, 16, seed=1)
        params = sampling_params(request, self._encoder.image_token_ids)
        names = [str(self._asked + i) for i in range(len(problems))]
        self._asked += len(problems)
        for name, one in zip(names, problems, strict=True):
            prompt: dict[str, Any] = {"prompt_token_ids": list(self._encoder.short_ids(one))}
            if one.images:
                shown = [self._encoder.images.open(image) for image in one.images]
                prompt["multi_modal_data"] = {"image": shown}
            self._engine.add_request(name, prompt, params)
        done: dict[str, Any] = {}
        steps = count(1)
        while self._engine.has_unfinished_requests():
            done |= {out.request_id: out for out in self._engine.step() if out.finished}
            if next(steps) == frozen_at:
                self._engine.reset_prefix_cache(reset_running_requests=True)
        made = [done[name] for name in names]
        return [self._group(one, out) for one, out in zip(problems, made, strict=True)]

    def _group(self, one: Problem, out: Any) -> Group:
        outputs = sorted(out.outputs, key=lambda output: output.index)
        answers = [
            Answer(tuple(each.token_ids), tuple(each.logprobs.logprobs), "", each.finish_reason, 0)
            for each in outputs
        ]
        group = Group(one, tuple(out.prompt_token_ids), tuple(answers))
        self.cached += out.num_cached_tokens
        return with_experts(group, outputs) if self._tells_experts else group

    def forget(self) -> None:
        """What was made of prompts and images with other weights."""
        self._engine.reset_prefix_cache()
        self._engine.reset_encoder_cache()

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, name)

    def _call(self, name: str, *args: Any) -> Any:
        return self._engine.collective_rpc(name, args=args)[0]


class Learner:
    """A rank of DeepSpeed by itself."""

    def __init__(self, folder: Path, plan: Any, encoder: InputEncoder) -> None:
        model = load_model(plan.policy, folder)
        policy = build_policy(model, plan.policy, encoder, learner=plan.learner)
        self.engine = DeepSpeedEngine(policy, plan.learner, plan.policy.dtype, 8)
        self._loss, self._encoder = plan.loss, encoder

    def update(self, rows: Sequence[TrainingRow]) -> float:
        """A step of GRPO; the gap between sampler and learner, nats."""
        loss = AnswerLoss(self._loss)
        update = Update(self.engine, count_tokens(rows), loss.figures)
        for batch in _batches(rows, self._encoder):
            update.add(batch, loss)
        report = update.finish()
        assert not report.skipped
        return report.metrics["logprob_gap"]

    def imitate(self, chats: Sequence[Chat]) -> float:
        """A step of SFT; its loss, nats."""
        packed = [[self._encoder.encode_chat(chat)] for chat in chats]
        batch = pack_chats(packed, self._encoder.pad_id, self._encoder.pixels(chats))
        update = Update(self.engine, len(batch.targets))
        update.add(batch, lambda _, logprobs_N, *others: (-logprobs_N, {}))
        return update.finish().metrics["loss"]


def _batches(rows: Sequence[TrainingRow], encoder: InputEncoder) -> Iterator[Any]:
    for row in rows:
        yield pack((row,), encoder.pad_id, encoder.pixels([row.problem]))


@torch.no_grad()
def _logprobs(forward: Any, rows: Sequence[TrainingRow], encoder: InputEncoder) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for batch in _batches(rows, encoder):
        found |= logprobs_by_answer(batch, forward(batch)[0])
    return found


def take(folder: Path, exported: Path, came: dict[str, Any]) -> None:
    """Go the way of the policy in `folder`, each thing that a run does in its order, and tell what
    came of it; what stands behind an error is left out."""
    mixture = bool(getattr(AutoConfig.from_pretrained(folder).get_text_config(), "num_experts", 0))
    plan = recipe(
        folder,
        prompt={"max_tokens": 256, "max_images": 2},
        rollout={
            "max_new_tokens": 32,
            "max_num_seqs": 16,
            "enforce_eager": True,
            # Blocks that are short enough for a group's answers to find their prompt in the cache.
            "engine_args": {"num_gpu_blocks_override": 128, "block_size": 32},
            "routing_replay": mixture,
        },
        loss={"kl": {"coef": 0.0}},
    )
    encoder = InputEncoder(folder, plan.prompt, trust_remote_code=False)
    problems = PICTURES if encoder.has_vision else [problem(i, images=0) for i in range(3)]
    engine, learner = Engine(folder, plan, encoder), Learner(folder, plan, encoder)
    config = learner.engine.policy.model.config
    check_packing(config, 288, "prompt.max_tokens")
    check_sync(config)

    came["loose"] = engine.loose_tensors()
    groups = engine.sample(problems)
    name = encoder.tokenizer.convert_ids_to_tokens
    check_prompts(groups, [encoder.encode(one) for one in problems], name)
    rows = parity_rows(groups)
    forward = learner.engine.forward
    came["gap"] = check_logprobs(rows, _logprobs(forward, rows, encoder), GAP)
    if mixture:
        engine.sample([LONG])  # so that its prompt is in the cache
        groups_of_all_kinds = engine.sample([*problems, LONG], frozen_at=5)
        own = _routed_alike(learner, parity_rows(groups_of_all_kinds), encoder)
        came["routed alike"] = own and engine.cached > 0

    assert learner.update(learned_from(groups)) < GAP
    came["moved"] = mean_gap(token_gaps(rows, _logprobs(forward, rows, encoder)))
    came["losses"] = [learner.imitate(_chats(problems)) for _ in range(3)]

    sent = _sync(engine, learner)
    engine.forget()
    names = engine.weight_groups(list(sent))
    held = engine.weight_sums()
    came["faults"] = compare_sums(_by_group(sent, names, held), held, 1e-6)
    rows = parity_rows(engine.sample(problems))
    learned = _logprobs(forward, rows, encoder)
    came["served"] = mean_gap(token_gaps(rows, learned))

    export_policy(learner.engine, encoder, folder, exported)
    again = Policy(load_model(plan.policy, exported), encoder, chunk=64)
    came["reread"] = mean_gap(
        [
            abs(a - b)
            for index, each in _logprobs(again, rows, encoder).items()
            for a, b in zip(each, learned[index], strict=True)
        ]
    )
    layouts = [
        {name: tuple(weight.shape) for name, weight in load_file(file).items()}
        for file in (folder / "model.safetensors", exported / "model.safetensors")
    ]
    came["same layout"] = layouts[0] == layouts[1]


def _routed_alike(learner: Learner, rows: Sequence[TrainingRow], encoder: InputEncoder) -> bool:
    """Whether engine and learner, left to themselves, send each token to the same experts."""
    alike: list[bool] = []
    for batch in _batches(rows, encoder):
        assert batch.experts is not None
        own = own_choices(learner.engine.forward, learner.engine.policy.model, batch)
        alike.append(torch.equal(batch.experts[0].sort(-1)[0].long(), own.sort(-1)[0]))
    return all(alike)


def _chats(problems: Sequence[Problem]) -> list[Chat]:
    """Each problem with its answer."""
    said = Turn("assistant", "8")
    return [
        Chat(one.id, (Turn("user", "<image>" * len(one.images) + "Sum?"), said), one.images)
        for one in problems
    ]


def _sync(engine: Engine, learner: Learner) -> WeightSums:
    weights = learner.engine.weights()
    source = PolicySource(weights, learner.engine.gathered, torch.float32)
    start = GlooTrainerInit("127.0.0.1", 2, rank=0)
    trainer = GlooTrainer.trainer_init(start, client=engine, source=source)
    trainer.send_weights()
    trainer.shutdown()
    return source.sums


def main(*names: str) -> None:
    """Take each family the way; errors are told, too."""
    logging.disable(logging.WARNING)
    out = os.fdopen(os.dup(1), "w")  # vLLM turns 1 off while processes meet, here in two threads
    register()
    for name in names:
        with TemporaryDirectory() as aside:
            folder, began = Path(aside) / "policy", time.monotonic()
            FAMILIES[name](folder)
            came: dict[str, Any] = {"family": name}
            try:
                take(folder, Path(aside) / "exported", came)
            except Exception:
                came["error"] = traceback.format_exc()
            came["seconds"] = time.monotonic() - began
        print(json.dumps(came), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
