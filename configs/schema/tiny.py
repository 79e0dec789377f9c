"""The laptop's own model: its parts, and the path on which they become a policy."""

from typing import ClassVar

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from configs.schema.base import StrictModel


class PartsConfig(StrictModel):
    """Ingredients that are pretrained apart: a vision tower, and language models of one shape."""

    layers: PositiveInt = 3
    """Layers of the language models."""
    tower_steps: PositiveInt = 400
    """Updates of the vision tower, which learns to name the digit in each quadrant."""
    tower_batch_size: PositiveInt = 128
    """Pictures of such an update."""
    base_steps: PositiveInt = 450
    """Updates of the base language model, on text."""
    substitute_steps: PositiveInt = 150
    """Updates that make the base model's one descendant answer plainly, on text."""
    reasoner_steps: PositiveInt = 100
    """Updates that make its other descendant think first, on text."""
    batch_size: PositiveInt = 64
    """Lines of text of an update."""
    lr: PositiveFloat = 2e-3
    """Peak learning rate of blank parts."""
    descendant_lr: PositiveFloat = 3e-4
    """Peak learning rate of descendants; the further they part, the more a swap loses."""


class TinyPathConfig(StrictModel):
    """From parts to a policy as R1V went (paper, section 2.1): align with the substitute, swap in
    the reasoner, fine-tune."""

    parts: PartsConfig = PartsConfig()
    batch_size: PositiveInt = 64
    """Chats of an update after the parts."""
    align_steps: PositiveInt = 128
    """Updates of the projector on the substitute."""
    align_lr: PositiveFloat = 4e-3
    """Their peak learning rate."""
    align_weight_decay: NonNegativeFloat = 0.05
    """Their weight decay; more keeps what the projector writes nearer to the size of embeddings."""
    sft_steps: PositiveInt = 150
    """Updates of each fine-tuning of the reasoner."""
    sft_lr: PositiveFloat = 1e-3
    """Their peak learning rate."""
    sources: ClassVar[tuple[str, ...]] = ("digits", "digits-text")
    """Data whose questions such a policy can read."""
