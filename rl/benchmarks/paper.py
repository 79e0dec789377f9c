"""Scores that the R1V paper reports (arXiv:2504.05599, table 1), to stand beside one's own.

The paper's GPQA does not say which subset; DeepSeek-R1's, which it follows, is diamond.
"""

PAPER = "arXiv:2504.05599, table 1"
R1V = "R1V-38B"
PAPER_SCORES: dict[str, dict[str, float]] = {
    "math_500": {R1V: 94.0, "QwQ-32B-Preview": 90.6},
    "aime_2024": {R1V: 72.0, "QwQ-32B-Preview": 50.0},
    "gpqa_diamond": {R1V: 61.6, "QwQ-32B-Preview": 54.5},
    "mathvista_testmini": {
        R1V: 67.5,
        "Qwen2-VL-72B": 70.5,
        "InternVL2.5-38B": 71.9,
        "VILA1.5-40B": 49.5,
        "InternVL2-40B": 63.7,
    },
    "mmmu_val": {
        R1V: 69.0,
        "Qwen2-VL-72B": 64.5,
        "InternVL2.5-38B": 63.9,
        "VILA1.5-40B": 55.1,
        "InternVL2-40B": 55.2,
    },
}
"""Percent of right answers by benchmark and model, as printed there."""
