"""The tables of families in docs/models.md, from what tests hold. `python -m tests.family_table`
writes them anew."""

from dataclasses import dataclass
from pathlib import Path
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

DOCUMENT = Path(__file__).parents[1] / "docs/models.md"
BEGIN, END = "<!-- families, written by python -m tests.family_table -->\n", "<!-- end -->\n"

ARCHITECTURES = {
    "internvl, tiled": "R1V's and InternVL 3's",
    "internvl3.5": "InternVL 3.5, dense",
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
WAY = ("preflight", "a step of GRPO", "a step of SFT", "sync, read back", "export, read again")
"""What a test takes each of them through with a real engine and a real learner."""


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


def tables() -> str:
    """Both, in Markdown."""
    way = " | ".join(WAY)
    lines = [f"| family | architecture | {way} |", "|---|---|" + "---|" * len(WAY)]
    yes = " | ".join("yes" for _ in WAY)
    lines += [f"| `{family}` | {ARCHITECTURES[family]} | {yes} |" for family in FAMILIES]
    lines += ["", "Refused at the start:", "", "| policy | by | what its user is told |"]
    lines += ["|---|---|---|"]
    for one in REFUSED:
        by = "GRPO and SFT" if one.sft_too else "GRPO"
        lines.append(f"| {one.policy} | {by} | {one.reason} |")
    return "\n".join(lines) + "\n"


def documented() -> str:
    """What stands in the document."""
    return DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the tables."""
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + tables() + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
