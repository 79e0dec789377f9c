"""How quick a run's page is in a browser: opening it, turning pages, filtering, and writing it.

A run of many samples is made up, then opened from the disk in headless Chromium.

    python benchmarks/run_page.py --out run_page.json [--samples 50000] [--tokens 200]
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import Browser, Page
from rich.console import Console
from rich.table import Table

from rl.run_page.page import RunPage, fill_from_files
from rl.run_page.views import GRPO
from rl.storage.jsonl import JsonlWriter
from tests.e2e.browser import chromium, opened
from tests.unit.step_samples import png

GROUP = 8
GROUPS = 32
WORDS = ("so", " the", " sum", " of", " both", " is", " 12", ",", " wait", "\n")


def sample(step: int, place: int, tokens: int, chance: random.Random) -> dict[str, Any]:
    """A made-up line of samples.jsonl."""
    texts = chance.choices(WORDS, k=tokens)
    right = chance.random() < 0.3 + step / 400
    cause = "correct" if right else chance.choice(("wrong", "no_answer", "timeout"))
    figures = [round(chance.random(), 3) for _ in range(tokens)]
    return {
        "step": step,
        "problem": f"problem-{step * GROUPS + place // GROUP}",
        "question": "What is the sum of the digits in the picture?",
        "images": [f"images/{(step * GROUPS + place // GROUP) % 500}.png"],
        "gold": ["12"],
        "prompt_tokens": 40,
        "sample": place % GROUP,
        "answer": "".join(texts),
        "finish_reason": "stop",
        "tokens": tokens + place % 50,
        "version": step - place % 2,
        "reward": float(right),
        "verdicts": {"math": {"score": float(right), "cause": cause, "detail": "12 and 13"}},
        "advantage": chance.gauss(0, 1),
        "logprob_gap": chance.random() / 100,
        "by_token": {"text": texts, **dict.fromkeys(("logprob", "gap", "entropy"), figures)},
    }


def make_run(run: Path, samples: int, tokens: int) -> None:
    """metrics.jsonl, samples.jsonl and images of a run."""
    chance = random.Random(0)
    (run / "images").mkdir(parents=True)
    for number in range(500):
        (run / "images" / f"{number}.png").write_bytes(png(56, 56, (number % 256, 9, 200)))
    metrics, lines = JsonlWriter(run / "metrics.jsonl"), JsonlWriter(run / "samples.jsonl")
    for step in range(samples // (GROUP * GROUPS) + 1):
        metrics.write({"step": step} | {f"figure_{i}": chance.random() for i in range(40)})
        left = min(GROUP * GROUPS, samples - step * GROUP * GROUPS)
        lines.write(*(sample(step, place, tokens, chance) for place in range(left)))
    metrics.close()
    lines.close()


SETTLED = """() => document.querySelector(".card") && !document.querySelector(".card .body .faint")
    && [...document.querySelectorAll(".card img")].every((image) => image.complete)"""
"""Whether all texts and pictures of a page of samples are there."""


def until_settled(page: Page, selector: str, value: str | None = None) -> float:
    """Milliseconds from a click on `selector`, or its new value, until all of it is there."""
    return page.evaluate(
        f"""async ([selector, value]) => {{
            const settled = {SETTLED};
            const node = document.querySelector(selector);
            const begun = performance.now();
            if (value === null) node.click();
            else {{ node.value = value; node.dispatchEvent(new Event("change")); }}
            do await new Promise((next) => requestAnimationFrame(next)); while (!settled());
            return performance.now() - begun;
        }}""",
        [selector, value],
    )


def measure(browser: Browser, run: Path, pages: int) -> dict[str, float]:
    """Milliseconds: medians and worst of what a reader does."""
    found: dict[str, float] = {}
    with opened(browser, run / "report.html") as curves:
        found["opened, curves"] = curves.page.evaluate("performance.now()")
    with opened(browser, run / "report.html", "part=samples") as made:
        page = made.page
        page.wait_for_function(SETTLED)
        found["opened, samples"] = page.evaluate("performance.now()")
        for name, wanted in (("by step", "step"), ("by advantage", "advantage")):
            found[f"sorted {name}"] = until_settled(page, "#sort", wanted)
            turned = [until_settled(page, "#on") for _ in range(pages)]
            found |= {f"page turned, {name}": median(turned), f"worst, {name}": max(turned)}
        found["filtered by verdict"] = until_settled(page, '[data-word="wrong"]')
        found["filtered by step"] = until_settled(page, "#step_to", "5")
        assert not made.faults, made.faults
    return found


def main() -> None:
    """Make the run, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--tokens", type=int, default=200, help="tokens of an answer")
    parser.add_argument("--pages", type=int, default=20, help="pages turned in each order")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        make_run(run, args.samples, args.tokens)
        begun = time.perf_counter()
        page = RunPage(run, {"name": "made up"}, GRPO)
        fill_from_files(page, run)
        found = {"page made anew, s": time.perf_counter() - begun}
        found["a step written, ms"] = 1000 * median(step_seconds(page, args.tokens))
        for name in ("samples.jsonl", "report"):
            files = [run / name, *(run / name).rglob("*.js")]
            found[f"{name}, MB"] = sum(path.stat().st_size for path in files) / 1e6
        with chromium() as browser:
            found |= {f"{name}, ms": ms for name, ms in measure(browser, run, args.pages).items()}
    table = Table("of a run of", f"{args.samples:,} samples")
    for name, value in found.items():
        table.add_row(name, f"{value:,.1f}")
    Console().print(table)
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")


def step_seconds(page: RunPage, tokens: int) -> list[float]:
    """What further steps of 256 answers cost the run."""
    took: list[float] = []
    for step in range(1000, 1010):
        lines = [sample(step, place, tokens, random.Random(step)) for place in range(256)]
        begun = time.perf_counter()
        page.add_step({"step": step, "reward": 0.5})
        page.add_samples(lines)
        page.write()
        took.append(time.perf_counter() - begun)
    return took


if __name__ == "__main__":
    main()
