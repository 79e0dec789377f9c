"""TRL's GRPOTrainer in a process of its own, which takes a step when it is told to.

It sees the same problems in the same order as this project's run, and the same rewards.
"""

import asyncio
import logging
import multiprocessing
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.scoring.reward_worker import RewardWorker
from configs.jobs.grpo import GRPORecipe
from models.inputs.encoder import InputEncoder
from rewards.completion import Completion
from rl.data.records import Problem


@dataclass(frozen=True, slots=True)
class TRLJob:
    """What TRL is given."""

    recipe: GRPORecipe
    """What this project's run goes by."""
    folder: Path
    """The policy that both start from."""
    problems: Sequence[Problem]
    """Of all steps, in order."""
    micro_batch: int
    """Answers of a forward and backward pass."""
    scratch: Path


class TRLByTurns:
    """The trainer, seen from the process that times it."""

    def __init__(self, job: TRLJob) -> None:
        """Start it; returns when it is ready for the first step."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_train, args=(theirs, job), daemon=False)
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def step(self) -> tuple[float, float]:
        """Let it take a step: its seconds, and the mean reward of its answers."""
        self._pipe.send("go")
        return self._pipe.recv()

    def close(self) -> None:
        """End it, wherever it is."""
        self._process.kill()
        self._process.join()


def _train(pipe: Any, job: TRLJob) -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    from transformers import PrinterCallback, TrainerCallback

    class Turns(TrainerCallback):
        """Waits for its turn between two steps: what is read for the next one counts for it."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self._wait("ready")

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "reward" in logs:
                self._wait((time.perf_counter() - self._began, float(logs["reward"])))

        def _wait(self, said: object) -> None:
            pipe.send(said)
            pipe.recv()
            self._began = time.perf_counter()

    trainer = _trainer(job, Turns())
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def _trainer(job: TRLJob, turns: Any) -> Any:
    import datasets
    import torch
    from transformers import AutoProcessor, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from models.policy.loading import load_model

    recipe = job.recipe
    encoder = InputEncoder(job.folder, recipe.prompt, False)
    rows = datasets.Dataset.from_list([_row(i, p) for i, p in enumerate(job.problems)])
    if encoder.has_vision:
        rows = rows.cast_column("images", [datasets.Image()])
    wanted = recipe.learner.optimizer
    answers = recipe.problems_per_step * recipe.rollout.group_size
    config = GRPOConfig(
        output_dir=str(job.scratch),
        per_device_train_batch_size=job.micro_batch,
        gradient_accumulation_steps=answers // job.micro_batch,
        num_generations=recipe.rollout.group_size,
        max_completion_length=recipe.rollout.max_new_tokens,
        temperature=recipe.rollout.temperature,
        max_steps=recipe.steps,
        learning_rate=wanted.lr,
        lr_scheduler_type=wanted.schedule,
        weight_decay=wanted.weight_decay,
        adam_beta1=wanted.betas[0],
        adam_beta2=wanted.betas[1],
        max_grad_norm=wanted.max_grad_norm,
        epsilon=recipe.loss.clip_low,
        epsilon_high=recipe.loss.clip_high,
        beta=recipe.loss.kl.coef,
        loss_type="dapo",  # one mean over all tokens of the step, as here
        scale_rewards="group",
        shuffle_dataset=False,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=recipe.learner.gradient_checkpointing,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=recipe.seed,
    )
    reader = AutoProcessor if encoder.has_vision else AutoTokenizer
    torch.manual_seed(recipe.seed)
    return GRPOTrainer(
        model=load_model(recipe.policy, job.folder),
        reward_funcs=_reward(job, encoder),
        args=config,
        train_dataset=rows,
        processing_class=reader.from_pretrained(job.folder),
        callbacks=[turns],
    )


def _row(index: int, problem: Problem) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt": [{"role": "user", "content": problem.question}],
        "index": index,
    }
    if problem.images:
        row["images"] = [
            {"bytes": None, "path": i} if isinstance(i, str) else {"bytes": i, "path": None}
            for i in problem.images
        ]
    return row


def _reward(job: TRLJob, encoder: InputEncoder) -> Any:
    """This project's rewards as TRL's reward function."""
    recipe = job.recipe
    limit, thinking = recipe.rollout.max_new_tokens, recipe.reward.thinking
    worker = RewardWorker(recipe.reward)
    ends = encoder.tokenizer.eos_token_id

    def completion(ids: list[int]) -> Completion:
        text = encoder.decode(ids, keep=(thinking.open_tag, thinking.close_tag))
        return Completion(text, len(ids), limit, "stop" if ids[-1] == ends else "length")

    async def scores(index: list[int], completion_ids: list[list[int]]) -> list[float]:
        asked = [
            worker.score(job.problems[i], [completion(ids)])
            for i, ids in zip(index, completion_ids, strict=True)
        ]
        return [score.reward for (score,) in await asyncio.gather(*asked)]

    def reward(index: list[int], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return asyncio.run(scores(index, completion_ids))

    return reward
