"""The laptop's start policy: a tiny R1V taught, by the same learner, to answer with and without
thinking. Made once and cached."""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from actors.cluster import Seats, start_learners
from actors.learners import ProblemRefs
from actors.pool import DriverLoop
from configs.schema import GRPORecipe, LearnerConfig, OptimizerConfig, WarmStartConfig
from models import tiny
from models.inputs import InputEncoder
from rl import digits, warm_targets
from rl.console import phase
from rl.lookahead import Lookahead
from rl.plan import Device
from rl.problems import ProblemSet
from rl.records import Problem
from rl.rows import Row, TrainingAnswer


def cached_policy(recipe: GRPORecipe) -> Path:
    """Where this recipe's warm-started policy lies, or will: named by all that decides it."""
    files = [__file__, *(module.__file__ for module in (digits, warm_targets, tiny))]
    code = b"".join(Path(file).read_bytes() for file in files if file)
    decides = [
        recipe.seed,
        recipe.warm_start,
        recipe.data,
        recipe.prompt,
        recipe.policy.dtype,
        recipe.learner.ranks,
    ]
    words = json.dumps([str(part) for part in decides]).encode()
    name = hashlib.sha256(code + words).hexdigest()[:16]
    return digits.cache_folder() / "policies" / name


def blank_policy(recipe: GRPORecipe) -> Path:
    """The untrained tiny policy of the recipe's kind: text only where the data has no images."""
    folder = cached_policy(recipe).with_suffix(".blank")
    if not folder.is_dir():
        build = tiny.build_tiny_text if recipe.data.image_column is None else tiny.build_tiny_vlm
        aside = folder.with_suffix(".writing")
        shutil.rmtree(aside, ignore_errors=True)
        build(aside, recipe.seed)
        aside.rename(folder)
    return folder


def make_start_policy(
    recipe: GRPORecipe, problems: ProblemSet, encoder: InputEncoder, device: Device
) -> Path:
    """Teach the blank policy on the recipe's own problems; returns the cached checkpoint."""
    warm = recipe.warm_start
    assert warm is not None, "the schema wants a warm start where policy.path is empty"
    folder = cached_policy(recipe)
    loop, refs = DriverLoop(), ProblemRefs(warm.batch)
    taught = _warm_recipe(recipe, warm)
    seats = Seats(taught, device)
    learners = start_learners(taught, blank_policy(recipe), device, loop, refs=refs, seats=seats)
    try:
        learners.setup()

        def rows_of(step: int) -> list[Row]:
            return [_row(problem, encoder) for problem in problems.take(warm.batch, step=step)]

        with ThreadPoolExecutor(1) as maker, phase("warm start", warm.steps) as work:
            # The next step's rows are made while the learner works on this one's.
            ahead = Lookahead(partial(maker.submit, rows_of), first=0, stop=warm.steps, depth=1)
            for _ in range(warm.steps):
                report = learners.update(ahead.take())
                work.advance(note=f"loss {report.metrics['loss']:.3f}")
        aside = folder.with_suffix(".writing")
        shutil.rmtree(aside, ignore_errors=True)
        learners.export(aside)
        aside.rename(folder)
    finally:
        learners.kill()
        seats.release()
        loop.close()
    return folder


def _warm_recipe(recipe: GRPORecipe, warm: WarmStartConfig) -> GRPORecipe:
    """The recipe under which the same learner learns by example: every part, one cycle."""
    optimizer = OptimizerConfig(
        lr=warm.lr, schedule="cosine", warmup_share=0.05, weight_decay=0.05, betas=(0.9, 0.95)
    )
    learner: LearnerConfig = recipe.learner.model_copy(update={"optimizer": optimizer})
    policy = recipe.policy.model_copy(
        update={"train": ("vision", "projector", "language"), "lora": None}
    )
    return recipe.model_copy(update={"learner": learner, "policy": policy, "steps": warm.steps})


def _row(problem: Problem, encoder: InputEncoder) -> Row:
    """A problem with both kinds of answer behind one prompt and image, so that neither is liked
    better, and the tower runs once."""
    tokenizer = encoder.tokenizer
    targets: list[TrainingAnswer] = []
    for think in (False, True):
        text = warm_targets.target_text(problem.fields, think)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        targets.append(TrainingAnswer(int(think), (*ids, tokenizer.eos_token_id)))
    return Row(problem, encoder.encode(problem), tuple(targets))
