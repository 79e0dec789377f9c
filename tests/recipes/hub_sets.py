"""Data sets of the hub that shipped recipes name, as their cards describe them: columns, types,
splits, and a few rows of the forms that stand there. Geometry3K has no column of ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Image, List, Value

from tests.unit.rl.benchmarks.hub_files import AIME_2024
from tests.unit.step_samples import png

TEXT = Value("string")
PICTURE = {"bytes": png(48, 32), "path": None}


@dataclass(frozen=True, slots=True)
class HubSet:
    """A data set."""

    columns: Mapping[str, Any]
    splits: Mapping[str, int]
    """Rows of each."""
    rows: Sequence[Mapping[str, Any]]
    """Of one split or another."""
    images: int = 0
    """Of each row."""


HUB_SETS = {
    "FanqingM/MMK12": HubSet(
        {"id": TEXT, "question": TEXT, "answer": TEXT, "subject": TEXT, "image": Image()},
        {"train": 15_616, "test": 2_000},
        (
            {
                "id": "math_15",
                "question": "As shown in the figure, $AB \\parallel CD$. What is $\\angle C$?",
                "answer": "$55^\\circ$",
                "subject": "math",
                "image": PICTURE,
            },
            {
                "id": "math_16",
                "question": "What is the area of the triangle in the picture?",
                "answer": "\\frac{3\\sqrt{3}}{2}",
                "subject": "math",
                "image": PICTURE,
            },
            {  # the test split's are questions with options
                "id": "physics_3",
                "question": "Which lamp is brightest?\nA. $L_1$\nB. $L_2$\nC. $L_3$\nD. none",
                "answer": "B",
                "subject": "physics",
                "image": PICTURE,
            },
        ),
        images=1,
    ),
    "hiyouga/geometry3k": HubSet(
        {"images": List(Image()), "problem": TEXT, "answer": TEXT},
        {"train": 2_101, "validation": 300, "test": 601},
        (
            {"images": [PICTURE], "problem": "<image>Find x.", "answer": "2 \\sqrt { 221 }"},
            {
                "images": [PICTURE],
                "problem": "<image>If the radius of $\\odot G$ is 26, find $A C$.",
                "answer": "48",
            },
            {
                "images": [PICTURE],
                "problem": "<image>Find $\\tan A$. Round to hundredths, if necessary.",
                "answer": "\\frac { 7 } { 24 }",
            },
        ),
        images=1,
    ),
    "agentica-org/DeepScaleR-Preview-Dataset": HubSet(
        {"problem": TEXT, "answer": TEXT, "solution": TEXT},
        {"train": 40_315},
        (
            {
                "problem": "Solve $\\cos x = \\frac{1}{2}$ for $x$ between $0$ and $\\pi$.",
                "answer": "\\frac{\\pi}{3}",
                "solution": "By the unit circle.",
            },
            {"problem": "How many are there?", "answer": "-\\frac{2}{3}", "solution": ""},
            {"problem": "Find $(x, y)$.", "answer": "(6,31,-1)", "solution": ""},
        ),
    ),
    "HuggingFaceH4/aime_2024": HubSet(
        AIME_2024,
        {"train": 30},
        (
            {
                "id": 60,
                "problem": "Find the number of minutes the walk takes her.",
                "solution": "204",
                "answer": "204",
                "url": "u",
                "year": "2024",
            },
            {"id": 61, "problem": "How many?", "solution": "", "answer": "025", "year": "2024"},
        ),
    ),
}
