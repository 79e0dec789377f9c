"""What the checkpoints that shipped recipes name are known to be, from their model cards."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Card:
    """What a shipped recipe's policy is said to be."""

    billions: float
    """Parameters, from the model card."""
    image_tokens: int
    """Tokens of the largest picture that the recipe should take; 0: it takes none."""


_TILED = 13 * 256 + 2
_R1V = Card(38.4, _TILED)

CARDS: dict[str, Card] = {
    "r1v_38b/align": _R1V,
    "r1v_38b/sft": _R1V,
    "r1v_38b/grpo": _R1V,
    "r1v_38b/grpo_four_nodes": _R1V,
    "r1v_38b/grpo_one_node": _R1V,
    "r1v_38b/grpo_long": _R1V,
    "r1v_38b/evaluate": _R1V,
    "internvl3_8b": Card(7.94, _TILED),
    # A picture of 1,000 by 1,000 pixels: 36 by 36 tokens of 28 pixels.
    "qwen2_5_vl_7b_geometry3k": Card(8.29, 36 * 36 + 2),
    "qwen2_5_vl_3b_one_gpu": Card(3.75, 36 * 36 + 2),
    "deepseek_r1_distill_qwen_1_5b_text": Card(1.78, 0),
}
