"""Forward and backward passes over packed rows: attention by spans, and under a dense mask.

    python benchmarks/attention.py --out attention.json

The same small language model on the same tokens, the two by turns, medians; and which of them the
learner would choose.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

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


def measured(model: Any, what: str, batch: PackedBatch, repeats: int) -> dict[str, Any]:
    """Tokens a second of each way."""
    ways = passes(model, batch)
    torch.testing.assert_close(ways["spans"](), ways["dense"](), atol=1e-4, rtol=1e-3)
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - began)
    speed = {name: batch.segments.numel() / median(times) for name, times in took.items()}
    return {
        "what": what,
        **{f"{name}_tokens_per_s": value for name, value in speed.items()},
        "spans_over_dense": speed["spans"] / speed["dense"],
        "chosen": "dense" if spans_of(batch.segments) is None else "spans",
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options.add_argument("--repeats", type=int, default=7, help="passes of each way")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_text(Path(folder), 0, SIZE)
        model = load_model(PolicyConfig(path=folder, dtype="float32"), folder)
    attend_by_spans(model)
    shapes = [(64, 60, 20), (4, 480, 30), (4, 480, 150), (1, 2000, 150), (1, 4000, 1000)]
    groups = [(60, 8, 30), (100, 8, 200), (300, 8, 400)]
    batches = {
        f"{rows} x {tokens} tokens in chats of {length}": chats(rows, tokens, length)
        for rows, tokens, length in shapes
    }
    batches |= {
        f"a prompt of {prompt} with {answers} answers of {length}": group(prompt, answers, length)
        for prompt, answers, length in groups
    }
    results = [measured(model, what, batch, chosen.repeats) for what, batch in batches.items()]
    chosen.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    table = Table(*results[0], title="Tokens a second, forward and backward")
    for result in results:
        cells = (f"{x:,.3g}" if isinstance(x, float) else str(x) for x in result.values())
        table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    main()
