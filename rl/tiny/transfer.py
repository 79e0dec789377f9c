"""The paper's transfer in miniature: what the swap of the language model costs, and what
fine-tuning regains (sections 2.1 and 4.3)."""

import json
import shutil
from pathlib import Path

from rich.table import Table

from actors.cluster.ray_session import ray_session
from configs.jobs.transfer import TransferRecipe
from configs.schema.data import DataConfig, PromptConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.policy.loading import load_model
from rewards.text.answer import last_box
from rl.console.progress import CONSOLE, phase
from rl.data.problems import ProblemSet
from rl.storage.atomic import atomic_file, link_or_copy
from rl.storage.run_folder import archive_existing_run, save_recipe
from rl.tiny.greedy import greedy_answers
from rl.tiny.parts import tiny_parts_of
from rl.tiny.pipeline import FineTuneStage, TinyPipeline

_BATCH = 100
_MOST_TOKENS = 64
Figures = dict[str, dict[str, float]]
"""`accuracy_image` and `accuracy_text` of each station."""


def transfer_command(recipe: TransferRecipe) -> None:
    """Go the path that the recipe names, and show how it went."""
    archive_existing_run(recipe.run_folder)
    save_recipe(recipe, recipe.run_folder)
    with ray_session():
        figures = transfer_run(recipe)
    CONSOLE.print(_table(figures))
    CONSOLE.print(f"the stations lie in {recipe.run_folder}")


def transfer_run(recipe: TransferRecipe) -> Figures:
    """Go the path in the Ray session that is open, ask at each station, write summary.json.

    Stations: the substitute after alignment; the reasoner after the swap; the reasoner after
    fine-tuning of the projector alone, by chains about pictures; and after that of projector and
    language model, by the same chains with chains in words among them.
    """
    log = recipe.log.model_copy(update={"folder": recipe.run_folder})
    path = TinyPipeline(recipe.path, recipe.seed, log)
    parts = tiny_parts_of(recipe.path.parts, recipe.seed)
    shutil.copytree(parts.folder, recipe.run_folder / "parts", copy_function=link_or_copy)
    stages = (
        FineTuneStage("reasoner_sft_projector", "digits-chains", ("projector",)),
        FineTuneStage(
            "reasoner_sft_projector_language", "digits-chains-text", ("projector", "language")
        ),
    )
    policies = path.run(parts, *stages)
    stations = {"substitute_aligned": path.aligned, "reasoner_swapped": path.swapped}
    stations |= {stage.name: policy for stage, policy in zip(stages, policies, strict=True)}
    figures: Figures = {}
    for station, policy in stations.items():
        with phase(f"asking {station}"):
            figures[station] = accuracies(policy, recipe)
        said = ", ".join(f"{name} {value:.3f}" for name, value in figures[station].items())
        CONSOLE.print(f"{station}: {said}")
    with atomic_file(recipe.run_folder / "summary.json") as aside:
        aside.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return figures


def accuracies(policy: Path, recipe: TransferRecipe) -> dict[str, float]:
    """Share of held-out problems whose likeliest answer has the right number in its box."""
    config = PolicyConfig(path=str(policy), dtype="float32")
    encoder = InputEncoder(policy, PromptConfig(), False)
    model = load_model(config, policy)
    asked = {
        "accuracy_image": DataConfig(source="digits", split="test"),
        "accuracy_text": DataConfig(source="digits-text", split="test", image_column=None),
    }
    found: dict[str, float] = {}
    for name, data in asked.items():
        problems = ProblemSet.open(
            data.model_copy(update={"limit": recipe.problems}),
            measure=encoder.measure,
            max_tokens=_MOST_TOKENS,
            rejected=recipe.run_folder / f"rejected_{name}.jsonl",
        ).first(None)
        answers = greedy_answers(model, encoder, problems, _MOST_TOKENS, _BATCH)
        right = [last_box(said) in one.gold for said, one in zip(answers, problems, strict=True)]
        found[name] = sum(right) / len(right)
    return found


def _table(figures: Figures) -> Table:
    table = Table("station", "pictures", "words")
    for station, figure in figures.items():
        table.add_row(station, *(f"{value:.1%}" for value in figure.values()))
    return table
