"""The parts of a policy that learn or stay frozen: vision tower, projector, language model."""

import re

from configs.schema.policy import Part

_VISION = re.compile(r"(^|\.)(vision_tower|vision_model|visual|vision_encoder)\.")
_PROJECTOR = re.compile(
    r"(^|\.)(multi_modal_projector|mlp1|connector|merger|deepstack_merger_list)\."
)


def part_of(parameter: str) -> Part:
    """Which part a parameter belongs to, by its name. Projectors inside a tower are projectors."""
    if _PROJECTOR.search(parameter):
        return "projector"
    return "vision" if _VISION.search(parameter) else "language"
