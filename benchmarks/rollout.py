"""Tokens a second of the rollout pool, and of vLLM's own `LLM.generate`, on the same requests.

    python benchmarks/rollout.py --out rollout.json

The pool is a run's: Ray actors, problems by reference, answers with logprobs and texts. vLLM alone
gets the same prompts, pictures, seeds and engine settings in one call. Both are kept running and
take turns. The tiny recipe's problems and an untrained policy of its size: the smaller the model,
the more a pool's own work shows.
"""

import dataclasses
import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from actors.cluster.cpu_threads import cpu_thread_variables
from actors.cluster.ray_session import ray_session
from actors.rollout.requests import problem_seed
from benchmarks import measuring
from configs.jobs.generate import GenerationRecipe
from models.inputs.encoder import InputEncoder
from models.tiny.model import build_tiny_vlm
from rl.data.records import Problem, SamplingRequest
from rl.digits.problems import Drawing, rows
from rl.jobs.generate import generation
from rl.jobs.prepare import plan_run

PROBLEMS, ANSWERS, TOKENS = 32, 8, 48


def recipe_of(policy: Path, folder: Path) -> GenerationRecipe:
    """Engines as the tiny recipe has them."""
    return GenerationRecipe.model_validate(
        {
            "name": "rollout",
            "policy": {"path": str(policy), "dtype": "float32"},
            "prompt": {"max_tokens": 64, "max_images": 1},
            "rollout": {
                "max_new_tokens": TOKENS,
                "max_num_seqs": 128,
                "enforce_eager": True,
                "cpu_threads": 1,
            },
            "log": {"folder": str(folder), "wandb": False},
        }
    )


def problems() -> list[Problem]:
    """Sums of digits in pictures."""
    drawn = rows("digits", "train", Drawing(num_train=PROBLEMS))
    return [
        Problem(id_, question, (answer,), images=(image["bytes"],))
        for id_, question, answer, image in zip(
            *(drawn[name] for name in ("id", "question", "answer", "image")), strict=True
        )
    ]


class BareEngine:
    """vLLM's LLM in a process of its own."""

    def __init__(self, recipe: GenerationRecipe, asked: Sequence[Problem]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, recipe, asked))
        os.environ.update(cpu_thread_variables(1, recipe.rollout.cpu_threads))
        self._process.start()
        self._pipe.recv()

    def __call__(self) -> None:
        """Answer all problems once."""
        self._pipe.send("go")
        self.tokens = self._pipe.recv()

    def close(self) -> None:
        """End it."""
        self._process.kill()


def _answer(pipe: Any, recipe: GenerationRecipe, asked: Sequence[Problem]) -> None:
    logging.disable(logging.WARNING)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(recipe.rollout.cpu_kv_cache_gib)
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    from actors.rollout.vllm_engine import engine_args, sampling_params

    path, prompt, rollout = recipe.policy.path, recipe.prompt, recipe.rollout
    encoder = InputEncoder(path, prompt, False)
    settings = engine_args(path, recipe.policy, prompt, rollout, None, has_vision=True)
    own = {field.name: getattr(settings, field.name) for field in dataclasses.fields(EngineArgs)}
    engine = LLM(**own)
    prompts = [
        {
            "prompt_token_ids": list(encoder.short_ids(problem)),
            "multi_modal_data": {"image": [encoder.images.open(i) for i in problem.images]},
        }
        for problem in asked
    ]
    params = [
        sampling_params(_request(problem_seed(0, problem.id)), encoder.image_token_ids)
        for problem in asked
    ]
    pipe.send("ready")
    while True:
        pipe.recv()
        outputs = engine.generate(prompts, params, use_tqdm=False)
        pipe.send(sum(len(answer.token_ids) for output in outputs for answer in output.outputs))


def _request(seed: int) -> SamplingRequest:
    return SamplingRequest(ANSWERS, 1.0, TOKENS, seed)


def main() -> None:
    chosen = measuring.parser(__doc__, rounds=10).parse_args()
    asked = problems()
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_vlm(Path(folder, "policy"), 0)
        recipe = recipe_of(Path(folder, "policy"), Path(folder))
        bare = BareEngine(recipe, asked)
        try:
            with ray_session():
                plan = plan_run(recipe)
                with generation(recipe, plan, problems_at_a_time=PROBLEMS) as rollouts:
                    ways = {
                        "pool": lambda: rollouts.sample(asked, _request(0)),
                        "bare": bare,
                    }
                    took = measuring.by_turns(ways, chosen.rounds, warm_up=3)
        finally:
            bare.close()
    speed = {f"{way}_tokens_per_s": bare.tokens / median(took[way]) for way in took}
    ratios = {"pool_over_bare": measuring.times_faster(took, "pool", "bare")}
    measuring.report(
        chosen.out,
        "Answers of a rollout",
        figures={"answers": PROBLEMS * ANSWERS, **speed},
        ratios=ratios,
        goals={"pool_over_bare": 0.95},
    )


if __name__ == "__main__":
    main()
