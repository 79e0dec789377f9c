"""The `iou` reward: how well boxes in the answer overlap the gold boxes (grounding data)."""

import math
import re
from collections.abc import Sequence
from typing import Any, cast

from configs.schema.reward import ThinkingConfig
from rewards.completion import Completion, bad_gold
from rewards.text.answer import final_answer
from rl.data.records import Problem, Verdict
from rl.data.thinking import split_thinking

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in the units of the data set."""

_COUNTED_CORRECT = 0.5
_MAX_BOXES = 100
_NUMBER = r"\s*(-?\d{1,12}(?:\.\d{1,12})?)\s*"
_FOUR = re.compile(rf"[\[(]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])]")


def iou_reward(problem: Problem, completion: Completion, thinking: ThinkingConfig) -> Verdict:
    """Mean intersection over union of matched boxes, over the larger number of boxes.

    Boxes are matched greedily, best overlap first; one too many or too few lowers the score. Gold
    boxes come from `problem.fields["boxes"]` (lists of four numbers), or from the gold text. An
    answer's boxes are all `[x1, y1, x2, y2]` in its box, its answer line or, without those, its
    text after the thoughts. The cause is `correct` from 0.5 upwards. Never raises.
    """
    given = problem.fields.get("boxes")
    golds = _boxes(problem.gold[0]) if given is None and problem.gold else _given(given)
    if not golds or not all(_has_area(box) for box in golds):
        shown = problem.gold if given is None else given
        return bad_gold(problem, f"{shown!r} are no boxes of left < right and top < bottom")
    tail = split_thinking(completion.text, thinking).final
    if tail is None:
        return Verdict(0.0, "no_answer", "the thoughts never close")
    found = _boxes(final_answer(completion.text, thinking) or "") or _boxes(tail)
    if not found:
        return Verdict(0.0, "unparsable", "no [x1, y1, x2, y2] in the answer")
    score = _matched(found, golds) / max(len(found), len(golds))
    said = f"IoU {score:.3f}, {len(found)} boxes for {len(golds)}"
    return Verdict(score, "correct" if score >= _COUNTED_CORRECT else "wrong", said)


def iou(one: Box, other: Box) -> float:
    """Area of the intersection of two boxes over that of their union, in [0, 1]."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (_area(one) + _area(other) - both)


def _matched(found: Sequence[Box], golds: Sequence[Box]) -> float:
    """Sum of the overlaps of greedily matched pairs."""
    pairs = [(iou(box, gold), i, j) for i, box in enumerate(found) for j, gold in enumerate(golds)]
    used: set[int] = set()
    taken: set[int] = set()
    total = 0.0
    for overlap, i, j in sorted(pairs, reverse=True):
        if i not in used and j not in taken:
            used.add(i)
            taken.add(j)
            total += overlap
    return total


def _boxes(text: str) -> list[Box]:
    found = _FOUR.finditer(text)
    boxes = [cast("Box", tuple(map(float, match.groups()))) for match in found]
    return [box for box in boxes[-_MAX_BOXES:] if _has_area(box)]


def _given(value: Any) -> list[Box]:
    """Boxes of a row's field: four numbers, or a list of fours."""
    try:
        rows = [value] if isinstance(value[0], int | float) else value
        boxes = [cast("Box", tuple(float(edge) for edge in row)) for row in rows]
    except (TypeError, ValueError, IndexError, KeyError):
        return []
    return boxes if all(len(box) == 4 for box in boxes) else []


def _has_area(box: Box) -> bool:
    return all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
