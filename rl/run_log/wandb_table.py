"""Samples as a table of Weights & Biases, images included."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl.run_page.cards import Line, kind_of
from rl.run_page.pictures import Pictures


def samples_table(pictures: Pictures, run: Path, lines: Sequence[Line], accuracy: str) -> Any:
    """A wandb.Table with a row for each of some lines of samples.jsonl, all of one kind.

    `pictures`: of the run in the folder `run`; `accuracy`: the reward that is called so.
    """
    import wandb

    kind = kind_of(lines[0])
    assert kind is not None, "the run's own lines are of a kind that is known"
    most = max(len(line["images"]) for line in lines)  # a cell holds one image
    columns = [column.key for column in kind.columns]
    columns += [f"image_{place + 1}" for place in range(most)]
    table = wandb.Table(columns=[*columns, "asked", "said", "verdicts"])
    for line in lines:
        card = kind.card(line, {})
        places = [pictures(name).get("src") for name in line["images"]]
        images = [wandb.Image(str(run / place)) if place else None for place in places]
        table.add_data(
            *kind.row(line, accuracy),
            *images,
            *[None] * (most - len(images)),
            _text(card["asked"], "role"),
            _text(card["said"], "title"),
            "\n".join(map(_part, card.get("parts", ()))),
        )
    return table


def _text(turns: Sequence[Mapping[str, str]], name: str) -> str:
    """Texts behind one another, by name where there are several."""
    if len(turns) == 1:
        return turns[0]["text"]
    return "\n\n".join(f"{turn[name]}: {turn['text']}" for turn in turns)


def _part(part: Mapping[str, Any]) -> str:
    reason = f": {part['detail']}" if part["detail"] else ""
    return f"{part['name']} {part['score']}, {part['cause']}{reason}"
