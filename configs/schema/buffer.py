"""Recipe section: the selective sample buffer."""

from pydantic import NonNegativeFloat, PositiveInt

from configs.schema.base import StrictModel
from configs.schema.run import Fraction


class SampleBufferConfig(StrictModel):
    """Informative answers of earlier steps, drawn where a step's own teach nothing (Skywork R1V2,
    arXiv:2504.16656, selective sample buffer; the paper gives no sizes)."""

    size: PositiveInt = 4096
    """Answers kept, the newest."""
    max_age: PositiveInt = 8
    """Steps after which an answer is dropped; the clip bounds what old ones can do."""
    fill: Fraction = 1.0
    """Answers drawn, as a share of those of the step that teach nothing, their group's rewards
    being equal; 1: each update learns from as many answers as were asked for."""
    exponent: NonNegativeFloat = 1.0
    """An answer is drawn with probability in proportion to |advantage| ** exponent."""
