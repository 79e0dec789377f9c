"""Small chat sets, text and images mixed, and recipes that learn from them."""

import json
from pathlib import Path
from typing import Any

from configs.jobs.mpo import MPORecipe
from configs.jobs.sft import AlignRecipe, SFTRecipe
from rl.storage.jsonl import read_lines
from tests.ray.system import problem

IMAGES = 7


def chat_file(folder: Path, chats: int, sums: int = 1) -> Path:
    """JSONL of chats with no, one or two pictures, by turns; each thought is so many sums long."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for number in range(IMAGES):
        (pictures / f"{number}.png").write_bytes(problem(number).images[0])
    path = folder / f"chats_{chats}_{sums}.jsonl"
    with path.open("w") as out:
        for i in range(chats):
            count = i % 3
            asked = "<image>" * count + "What is the sum of 3, 5" + ", 1" * (i % 5) + "?"
            said = f"<think>I see 3, 5. {' '.join(['3+5=8'] * sums)}</think>\\boxed{{{i}}}"
            row = {
                "messages": [
                    {"role": "user", "content": asked},
                    {"role": "assistant", "content": said},
                ],
                "images": [f"pictures/{(i + j) % IMAGES}.png" for j in range(count)],
            }
            out.write(json.dumps(row) + "\n")
    return path


def sft_recipe(policy: Path, folder: Path, **changes: Any) -> SFTRecipe:
    """A recipe on 22 chats, 3 steps long, that leaves its run in `folder`."""
    own = {"name": "tested", "data": {"source": str(chat_file(folder, 22))}}
    fields = _fields(policy, folder, train=["projector", "language"])
    learner = fields.pop("learner") | changes.pop("learner", {})
    return SFTRecipe.model_validate(own | fields | {"learner": learner} | changes)


def pair_file(folder: Path, pairs: int) -> Path:
    """JSONL of preference pairs with no, one or two pictures, by turns."""
    chats = read_lines(chat_file(folder, pairs))
    path = folder / f"pairs_{pairs}.jsonl"
    with path.open("w") as out:
        for i, chat in enumerate(chats):
            asked, said = (message["content"] for message in chat["messages"])
            wrong = f"<think>{'3+5=9 ' * (1 + i % 4)}</think>\\boxed{{9}}"
            row = {"prompt": asked, "chosen": said, "rejected": wrong, "images": chat["images"]}
            out.write(json.dumps(row) + "\n")
    return path


def mpo_recipe(policy: Path, folder: Path, **changes: Any) -> MPORecipe:
    """A recipe on 22 pairs, 3 steps long, with 6 held out, that leaves its run in `folder`."""
    fields = _fields(policy, folder, train=["projector", "language"])
    learner = fields.pop("learner") | {"max_tokens_per_microbatch": 256}
    own: dict[str, Any] = {
        "data": {"source": str(pair_file(folder, 22))},
        "prompt": {"max_tokens": 256},
        "evaluation": {"data": {"source": str(pair_file(folder, 6))}},
        "loss": {"beta": 0.5, "delta_decay": 0.5},
        "learner": learner | changes.pop("learner", {}),
    }
    return MPORecipe.model_validate(fields | own | changes)


def align_recipe(policy: Path, folder: Path, **changes: Any) -> AlignRecipe:
    """A recipe of passes that leaves its runs in `folder`."""
    return AlignRecipe.model_validate(_fields(policy, folder) | changes)


def _fields(policy: Path, folder: Path, **parts: Any) -> dict[str, Any]:
    """What all recipes here have."""
    return {
        "batch_size": 8,
        "policy": {"path": str(policy), "dtype": "float32", **parts},
        "prompt": {"max_tokens": 128},
        "log": {"folder": str(folder / "runs"), "wandb": False},
        "learner": {
            "gradient_checkpointing": False,
            "max_tokens_per_microbatch": 128,
            "optimizer": {"lr": 1e-3, "max_grad_norm": 0.5},
        },
    }


def figures(recipe: SFTRecipe, name: str) -> list[float]:
    """A figure of each step."""
    return [line[name] for line in read_lines(recipe.run_folder / "metrics.jsonl")]


def seen(run: Path) -> list[list[int]]:
    """The rows that each step has learned from."""
    lines = list(read_lines(run / "trained_rows.jsonl"))
    assert [line["step"] for line in lines] == list(range(len(lines)))
    return [line["rows"] for line in lines]
