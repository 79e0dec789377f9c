"""The tables of families in docs/models.md. `python -m tests.family_table` takes every family its
way and writes what came of it; a test takes them again, and compares."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import (
    Gemma3Config,
    Gemma3TextConfig,
    Glm4vMoeConfig,
    Llama4Config,
    MistralConfig,
    MixtralConfig,
    MllamaConfig,
    Qwen3NextConfig,
)

from models.policy.families import check_packing, check_sync
from rl.console.errors import UserError
from tests.families import FAMILIES
from tests.repository import ROOT

DOCUMENT = ROOT / "docs/models.md"
BEGIN, END = "<!-- families, written by python -m tests.family_table -->\n", "<!-- end -->\n"

ARCHITECTURES = {
    "internvl, tiled": "R1V's and InternVL 3's",
    "internvl3.5": "InternVL 3.5, dense",
    "internvl3.5-moe": "InternVL 3.5, mixture of experts",
    "qwen2.5-vl": "Qwen2.5-VL",
    "qwen3-vl": "Qwen3-VL, dense",
    "qwen3-vl-moe": "Qwen3-VL, mixture of experts",
    "llava": "LLaVA 1.5",
    "llava-onevision": "LLaVA-OneVision",
    "glm-4v": "GLM-4.1V and GLM-4.6V-Flash",
    "idefics3": "Idefics3, SmolVLM",
    "qwen3": "Qwen2, Qwen3",
    "qwen3-moe": "Qwen3, mixture of experts",
    "llama": "Llama 2 and 3",
    "mistral": "Mistral without a sliding window",
}
_KEYS = "prompt.max_tokens and rollout.max_new_tokens"
WAY: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "preflight": lambda came: came["gap"] < 1e-4 and came.get("routed alike", True),
    "a step of GRPO": lambda came: came["moved"] > 1e-3,
    "a step of SFT": lambda came: came["losses"][-1] < came["losses"][0],
    "sync, read back": lambda came: came["faults"] == [] and came["served"] < 1e-4,
    "export, read again": lambda came: came["reread"] < 1e-5 and came["same layout"],
}
"""What each of them goes through with a real engine and a real learner, and what has to come of it.
"""


@dataclass(frozen=True, slots=True)
class Refused:
    """A policy that is refused at the start."""

    policy: str
    config: Any
    longest: int = 10_000
    """Tokens of a row."""
    sft_too: bool = True

    @property
    def reason(self) -> str:
        """What its user is told."""
        try:
            check_packing(self.config, self.longest, _KEYS)
            assert not self.sft_too, f"rl/sft.py refuses {self.policy}"
            check_sync(self.config)
        except UserError as error:
            return str(error).removeprefix("policy.path: ")
        raise AssertionError(f"{self.policy} is not refused")


REFUSED = (
    Refused("Gemma 3, text", Gemma3TextConfig()),
    Refused("Gemma 3 with images", Gemma3Config(), longest=100),
    Refused("Llama 3.2 Vision", MllamaConfig()),
    Refused("Llama 4", Llama4Config()),
    Refused("Mistral 7B v0.1", MistralConfig(sliding_window=4096)),
    Refused("Qwen3-Next", Qwen3NextConfig()),
    Refused("GLM-4.5V", Glm4vMoeConfig(), sft_too=False),
    Refused("Mixtral", MixtralConfig(sliding_window=None), sft_too=False),
)


def take_all() -> dict[str, dict[str, Any]]:
    """What came of each family, all taken by one process: its start is what costs."""
    # vLLM makes a process's groups for its first model, and those for experts only then.
    ordered = sorted(FAMILIES, key=lambda family: "moe" not in family)
    done = subprocess.run(
        [sys.executable, "-m", "tests.ray.actors.rollout.family_path", *ordered],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["family"]: line for line in lines}


def row(came: Mapping[str, Any]) -> str:
    """The row that a family has earned: what stands behind an error, nobody knows."""
    cells = ["yes" if _passed(holds, came) else "no" for holds in WAY.values()]
    family = came["family"]
    return " | ".join([f"| `{family}`", ARCHITECTURES[family], *cells]) + " |"


def _passed(holds: Callable[[Mapping[str, Any]], bool], came: Mapping[str, Any]) -> bool:
    try:
        return holds(came)
    except KeyError:
        return False


def refused() -> str:
    """The table of those that are refused, in Markdown."""
    lines = [
        "Refused at the start:",
        "",
        "| policy | by | what its user is told |",
        "|---|---|---|",
    ]
    for one in REFUSED:
        by = "GRPO and SFT" if one.sft_too else "GRPO"
        lines.append(f"| {one.policy} | {by} | {one.reason} |")
    return "\n".join(lines) + "\n"


def documented() -> str:
    """What stands in the document."""
    return DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the tables."""
    came = take_all()
    head = [f"| family | architecture | {' | '.join(WAY)} |", "|---|---|" + "---|" * len(WAY)]
    rows = [row(came[family]) for family in FAMILIES]
    made = "\n".join([*head, *rows, "", refused()])
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + made + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
