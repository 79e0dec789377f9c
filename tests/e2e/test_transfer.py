"""R1V's path on the laptop's parts, with very few steps: what moves at which station."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from models.policy.parts import part_of
from tests.e2e.command import Place

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow]

STATIONS = [
    "substitute_aligned",
    "reasoner_swapped",
    "reasoner_sft_projector",
    "reasoner_sft_projector_language",
]


@pytest.fixture(scope="module")
def run(place: Place) -> Path:
    words = [
        "path.parts={tower_steps: 2, base_steps: 4, substitute_steps: 2, reasoner_steps: 2}",
        "path.batch_size=8",
        "path.align_steps=2",
        "path.sft_steps=2",
        "problems=8",
        "name=transfer",
        f"log.folder={place.folder / 'runs'}",
    ]
    place.finish(words, "transfer", script="rl/transfer.py")
    return place.run("transfer")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def changed(before: Path, after: Path) -> set[str]:
    """Parts with a weight that differs."""
    old, new = weights(before), weights(after)
    assert old.keys() == new.keys()
    return {part_of(name) for name in old if not torch.equal(old[name], new[name])}


def test_the_summary_has_both_accuracies_of_every_station(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert list(summary) == STATIONS
    for figures in summary.values():
        assert set(figures) == {"accuracy_image", "accuracy_text"}
        assert all(0 <= value <= 1 for value in figures.values())


def test_alignment_moves_the_projector_and_nothing_else(run: Path) -> None:
    assert changed(run / "assembled", run / "align" / "pass_1" / "policy") == {"projector"}


def test_the_swap_keeps_all_sight_and_takes_the_reasoner_s_words(run: Path, place: Place) -> None:
    aligned, swapped = run / "align" / "pass_1" / "policy", run / "swapped"
    assert changed(aligned, swapped) == {"language"}
    (parts,) = (place.cache / "parts").iterdir()
    reasoner = AutoModelForCausalLM.from_pretrained(parts / "reasoner").state_dict()
    held = {name.removeprefix("language_model."): w for name, w in weights(swapped).items()}
    for name, weight in reasoner.items():
        if name != "lm_head.weight":  # tied to the embeddings
            assert torch.equal(held[name], weight), name


def test_fine_tuning_moves_what_the_station_names(run: Path) -> None:
    swapped = run / "swapped"
    assert changed(swapped, run / "reasoner_sft_projector" / "policy") == {"projector"}
    both = run / "reasoner_sft_projector_language" / "policy"
    assert changed(swapped, both) == {"projector", "language"}
