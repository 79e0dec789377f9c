"""The table of metrics: figures find their metric, and each metric is recorded and described."""

import ast
import re
from functools import cache

import pytest

from rl.monitoring.metrics import METRICS, PREFIX, metric, metric_of_figure
from rl.monitoring.panels import DASHBOARDS
from tests.repository import ROOT

NAMES = {each.name for each in METRICS}
RECORDED_BY = ("actors", "rl/jobs", "rl/monitoring")


@cache
def words_of_the_code() -> set[str]:
    """Every string of the code that records metrics."""
    files = [path for folder in RECORDED_BY for path in (ROOT / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text("utf-8")) for path in files if path.stem != "panels"]
    # A description in the table is no recording: names stand there behind what builds them.
    table = {id(node.args[0]) for tree in trees for node in ast.walk(tree) if is_entry(node)}
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in table
    }


def is_entry(node: ast.AST) -> bool:
    """Whether it is a call that makes an entry of the table."""
    makers = ("_gauge", "_counter", "_histogram")
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers


@pytest.mark.parametrize(
    ("figure", "name", "labels"),
    [
        ("loss", "learner_loss", {}),
        ("tokens_per_s", "learner_tokens_per_s", {}),
        ("seconds", "run_step_seconds", {}),
        ("seconds_sync", "run_phase_seconds", {"phase": "sync"}),
        ("score/math", "reward_score", {"reward": "math"}),
        ("evaluation/accuracy", "run_held_out", {"figure": "accuracy"}),
        ("evaluation/score/math", "run_held_out", {"figure": "score/math"}),
        ("useful_groups", "run_figure", {"figure": "useful_groups"}),
    ],
)
def test_each_figure_is_shown_by_one_metric(figure: str, name: str, labels: dict[str, str]) -> None:
    assert metric_of_figure(figure) == (name, labels)
    assert set(metric(name).labels) == set(labels)


def test_names_are_said_once_and_begin_with_the_project_and_a_role() -> None:
    assert len(NAMES) == len(METRICS)
    assert {each.role for each in METRICS} == {"run", "rollout", "reward", "learner", "sync"}
    assert all(re.fullmatch(rf"{PREFIX}[a-z]+(_[a-z]+)+", name) for name in NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_metric_is_recorded_by_some_code(name: str) -> None:
    assert name.removeprefix(PREFIX) in words_of_the_code()


def test_every_metric_is_on_a_dashboard() -> None:
    panels = [panel for panels in DASHBOARDS.values() for panel in panels]
    shown = {metric(name).name for panel in panels for q in panel.queries for name in q.metrics}
    assert shown == NAMES


def test_the_documented_metrics_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = re.findall(r"^\| `(ray_r1v_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \| (.*) \|$", text, re.M)
    told = {
        (
            each.series,
            each.kind,
            each.unit,
            ", ".join(each.labels),
            each.description,
        )
        for each in METRICS
    }
    assert {tuple(cell.strip() for cell in row) for row in rows} == told
