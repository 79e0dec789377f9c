"""What an evaluation leaves to read: summary.json and report.md."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl.benchmarks.paper import PAPER, PAPER_SCORES, R1V
from rl.data.records import CAUSES
from rl.run_log.benchmark_figures import BenchmarkResult
from rl.storage.atomic import atomic_file
from rl.storage.jsonl import json_number

SUMMARY = "summary.json"
REPORT = "report.md"


def write_report(
    folder: Path,
    protocol: Mapping[str, Any],
    results: Sequence[BenchmarkResult],
    rejected: Mapping[str, int],
) -> None:
    """Write summary.json and report.md into a run's folder, each whole or not at all.

    Args:
        protocol: which model was asked, and how; told as it is.
        rejected: rows left out, by benchmark.
    """
    summary = {
        "protocol": dict(protocol),
        "benchmarks": {
            result.name: {
                **{name: json_number(value) for name, value in result.figures.items()},
                "rejected_rows": rejected.get(result.name, 0),
                "subjects": {name: dict(row) for name, row in result.subjects.items()},
                "paper": {"source": PAPER, "percent": PAPER_SCORES[result.name]}
                if result.name in PAPER_SCORES
                else None,
            }
            for result in results
        },
    }
    _write(folder / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    _write(folder / REPORT, report_text(protocol, results, rejected))


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as aside:
        aside.write_text(text, "utf-8")


def report_text(
    protocol: Mapping[str, Any],
    results: Sequence[BenchmarkResult],
    rejected: Mapping[str, int],
) -> str:
    """All tables in Markdown."""
    parts = [f"# Evaluation of {protocol['model']}", _protocol_text(protocol), _scores(results)]
    parts += [_paper_table(results)] if any(r.name in PAPER_SCORES for r in results) else []
    parts += ["## Verdicts", _verdicts(results, rejected)]
    for result in results:
        if result.subjects:
            parts += [f"## {result.name} by subject", _subjects(result)]
    return "\n\n".join(parts) + "\n"


def _protocol_text(protocol: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in protocol.items() if name != "model")


def _scores(results: Iterable[BenchmarkResult]) -> str:
    rows: list[list[str]] = []
    for result in results:
        figures = result.figures
        k = int(figures["samples"])
        rows.append(
            [
                result.name,
                f"{figures['problems']:.0f}",
                str(k),
                percent(figures.get("accuracy")),
                f"{percent(figures.get('low'))} to {percent(figures.get('high'))}",
                percent(figures.get(f"pass@{k}")),
                percent(figures.get(f"cons@{k}")),
                f"{figures.get('mean_length', 0.0):,.0f}",
                percent(figures.get("truncated_share")),
            ]
        )
    head = ["benchmark", "problems", "k", "avg@k", "95 % interval", "pass@k", "cons@k"]
    return table([*head, "tokens", "cut off"], rows)


def _paper_table(results: Iterable[BenchmarkResult]) -> str:
    rows: list[list[str]] = []
    for result in results:
        if (printed := PAPER_SCORES.get(result.name)) is not None:
            others = [f"{model} {score:g}" for model, score in printed.items() if model != R1V]
            ours = percent(result.figures.get("accuracy"))
            rows.append([result.name, ours, f"{printed[R1V]:g}", ", ".join(others)])
    head = ["benchmark", "this run", f"{R1V} (the paper's figure)", "others (the paper's figures)"]
    return f"Scores in percent; the paper's are from {PAPER}, not measured here.\n\n" + table(
        head, rows
    )


def _verdicts(results: Iterable[BenchmarkResult], rejected: Mapping[str, int]) -> str:
    rows = [
        [
            result.name,
            *(percent(result.figures.get(f"verdicts/{cause}")) for cause in CAUSES),
            str(rejected.get(result.name, 0)),
        ]
        for result in results
    ]
    return table(["benchmark", *CAUSES, "rows left out"], rows)


def _subjects(result: BenchmarkResult) -> str:
    rows = [
        [name, f"{row['problems']:.0f}", percent(row["accuracy"])]
        for name, row in result.subjects.items()
    ]
    return table(["subject", "problems", "avg@k"], rows)


def percent(share: float | None) -> str:
    """A share in percent, one decimal; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
