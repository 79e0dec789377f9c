"""Forward and backward passes over packed rows: attention by spans, and under a dense mask.

    python benchmarks/attention.py --out attention.json

The same small language model on the same tokens, the two by turns, medians; and which of them the
learner would choose.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks import measuring
from configs.schema.policy import PolicyConfig
from models.inputs.packing import PackedBatch, pack, pack_chats
from models.policy.attention import all_spans, attend_by_spans, empty_mask, spans_of
from models.policy.loading import load_model
from models.tiny.model import TinySize, build_tiny_text
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Problem, TokenisedChat

SIZE = TinySize(hidden=256, layers=4, mlp=768, context=8192)


def chats(rows: int, tokens: int, length: int) -> PackedBatch:
    """Rows of `tokens` tokens in chats of `length`, the last of a row shorter."""
    draw = torch.Generator().manual_seed(0)

    def chat(count: int) -> TokenisedChat:
        ids = torch.randint(10, 300, (count,), generator=draw).tolist()
        return TokenisedChat(tuple(ids), (False,) + (True,) * (count - 1))

    row = [min(length, tokens - start) for start in range(0, tokens, length)]
    return pack_chats([[chat(count) for count in row] for _ in range(rows)], pad_id=0)


def group(prompt: int, answers: int, length: int) -> PackedBatch:
    """GRPO's row: a prompt, and its answers of `length` tokens."""
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(10, 300, (count,), generator=draw).tolist())

    siblings = tuple(TrainingAnswer(i, ids(length), 1.0) for i in range(answers))
    return pack((TrainingRow(Problem("p", "?", ("1",)), ids(prompt), siblings),), pad_id=0)


def passes(model: Any, batch: PackedBatch) -> dict[str, Callable[[], Tensor]]:
    """Ways to run the model over the batch once, masks and spans made anew."""

    def run(by_spans: bool) -> Tensor:
        hidden = model.model(
            input_ids=batch.input_ids,
            attention_mask=empty_mask(torch.device("cpu")) if by_spans else batch.attention_mask,
            position_ids=batch.position_ids,
            spans=all_spans(batch.segments) if by_spans else None,
            use_cache=False,
        )[0]
        hidden.sum().backward()
        return hidden

    return {"dense": lambda: run(False), "spans": lambda: run(True)}


def measured(model: Any, batch: PackedBatch, rounds: int) -> tuple[dict[str, Any], float]:
    """Tokens a second of each way, which of them is chosen, and how much faster spans are."""
    ways = passes(model, batch)
    torch.testing.assert_close(ways["spans"](), ways["dense"](), atol=1e-4, rtol=1e-3)
    took = measuring.by_turns(ways, rounds)
    speed = {
        f"{way}_tokens_per_s": batch.segments.numel() / median(times) for way, times in took.items()
    }
    chosen = "dense" if spans_of(batch.segments) is None else "spans"
    return {**speed, "chosen": chosen}, measuring.times_faster(took, "spans", "dense")


def main() -> None:
    chosen = measuring.parser(__doc__, rounds=7).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_text(Path(folder), 0, SIZE)
        model = load_model(PolicyConfig(path=folder, dtype="float32"), folder)
    attend_by_spans(model)
    shapes = [(64, 60, 20), (4, 480, 30), (4, 480, 150), (1, 2000, 150), (1, 4000, 1000)]
    groups = [(60, 8, 30), (100, 8, 200), (300, 8, 400)]
    batches = {
        f"{rows}_rows_of_{tokens}_in_chats_of_{length}": chats(rows, tokens, length)
        for rows, tokens, length in shapes
    }
    batches |= {
        f"prompt_of_{prompt}_{answers}_answers_of_{length}": group(prompt, answers, length)
        for prompt, answers, length in groups
    }
    figures: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    for what, batch in batches.items():
        found, faster = measured(model, batch, chosen.rounds)
        figures |= {f"{what}_{name}": value for name, value in found.items()}
        ratios[f"spans_over_dense_{what}"] = faster
    measuring.report(
        chosen.out, "Tokens a second, forward and backward", figures=figures, ratios=ratios
    )


if __name__ == "__main__":
    main()
