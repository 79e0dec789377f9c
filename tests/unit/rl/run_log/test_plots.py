"""The picture of a run shows what was measured, and says where nothing was."""

from pathlib import Path

import numpy as np
from PIL import Image

from rl.run_log.plots import plot_run, running_mean
from rl.run_page.views import GRPO


def test_a_running_mean_uses_what_there_is_near_the_ends() -> None:
    means = running_mean(np.array([0.0, 3.0, 6.0, 9.0]), 3)
    assert means.tolist() == [1.5, 3.0, 6.0, 7.5]


def test_a_plot_is_a_png_with_colour_wherever_there_are_figures(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    steps = [
        {"step": n, "reward": n / 40, "mean_length": None, "logprob_gap": 0.0} for n in range(40)
    ]
    plot_run(path, "trial", GRPO.panels, steps, [{"step": 0, "accuracy": 0.5}])
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    blue = (pixels[..., 2] - pixels[..., 0]) > 60
    top, bottom = blue[: height // 2], blue[height // 2 :]
    assert top[:, : width // 2].any(), "reward"
    assert top[:, width // 2 :].any(), "accuracy"
    assert not bottom[:, : width // 2].any(), "no length was measured"


def test_a_run_without_any_figures_still_has_a_picture(tmp_path: Path) -> None:
    plot_run(tmp_path / "plot.png", "trial", GRPO.panels, [], [])
    assert (tmp_path / "plot.png").stat().st_size > 0
