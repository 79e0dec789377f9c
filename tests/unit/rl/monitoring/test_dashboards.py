"""The dashboards in configs/grafana are those that the metrics make."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from rl.monitoring.dashboards import FOLDER, dashboard, dashboard_text
from rl.monitoring.metrics import METRICS
from rl.monitoring.panels import DASHBOARDS

SERIES = {each.series for each in METRICS}
ENDS = ("", "_bucket", "_sum", "_count")
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool (Debian's prometheus)")


def unknown_series(text: str) -> set[str]:
    """Names of this project's series in `text` that no metric has."""
    known = {series + end for series in SERIES for end in ENDS}
    return set(re.findall(r"\bray_r1v_\w+", text)) - known


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_s_file_is_what_the_code_makes(name: str) -> None:
    path = FOLDER / f"{name}.json"
    assert path.read_text("utf-8") == dashboard_text(name), "run python -m rl.monitoring.dashboards"


def test_there_is_a_dashboard_a_role_and_an_overview() -> None:
    files = {path.stem for path in FOLDER.glob("*.json")}
    assert files == {"overview", "rollout", "reward", "learner", "sync"} == set(DASHBOARDS)
    assert len({dashboard(name)["uid"] for name in DASHBOARDS}) == len(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_side_by_side_and_ask_the_chosen_data_source(name: str) -> None:
    made = json.loads(dashboard_text(name))
    cells = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in made["panels"]]
    assert len(set(cells)) == len(cells) and {x for x, _ in cells} == {0, 12}
    variables = {variable["name"] for variable in made["templating"]["list"]}
    assert variables == {"datasource", "run"}
    for panel in made["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all('run=~"$run"' in target["expr"] for target in panel["targets"])


def unknown_to_grafana(told: Any, kept: Any, at: str = "") -> list[str]:
    """Where what Grafana's types keep of a file is not what the file says."""
    if isinstance(told, dict) and isinstance(kept, dict):
        places = [(key, told[key], kept.get(key)) for key in told]
    elif isinstance(told, list) and isinstance(kept, list) and len(told) == len(kept):
        places = list(zip(range(len(told)), told, kept, strict=True))
    else:
        return [] if told == kept else [at]
    return [lost for key, a, b in places for lost in unknown_to_grafana(a, b, f"{at}/{key}")]


def through_grafana(made: dict[str, Any]) -> dict[str, Any]:
    """A dashboard read into Grafana's types, and written again."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(made)))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_s_own_types_know_every_field(name: str) -> None:
    made = json.loads(dashboard_text(name))
    assert unknown_to_grafana(made, through_grafana(made)) == []


def test_a_field_that_grafana_does_not_know_would_be_found() -> None:
    made = json.loads(dashboard_text("sync"))
    made["panels"][0]["gridPosition"] = made["panels"][0].pop("gridPos")
    made["panels"][1]["targets"][0]["expression"] = "up"
    assert unknown_to_grafana(made, through_grafana(made)) == [
        "/panels/0/gridPosition",
        "/panels/1/targets/0/expression",
    ]


@needs_promtool
def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    for what in (["rules", FOLDER / "alerts.yml"], ["config", FOLDER / "prometheus.yml"]):
        subprocess.run([str(PROMTOOL), "check", *map(str, what)], check=True, capture_output=True)


def test_alerts_ask_for_metrics_that_there_are() -> None:
    assert not unknown_series((FOLDER / "alerts.yml").read_text("utf-8"))
    assert unknown_series("ray_r1v_run_stepp") == {"ray_r1v_run_stepp"}


def fires(alert: str, series: dict[str, str], minutes: float, folder: Path) -> bool:
    """Whether `alert` fires after so many minutes of `series`, in promtool's notation by minute."""
    case: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ],
    }
    test = {"rule_files": [str(FOLDER / "alerts.yml")], "evaluation_interval": "1m"}
    path = folder / "case.yml"
    path.write_text(yaml.safe_dump({**test, "tests": [case]}))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0 or "exp: {} 1" in done.stdout + done.stderr, done.stderr
    return done.returncode == 0


def run_series(step: str, time: str) -> dict[str, str]:
    """A run of ten steps: its steps done, and when the newest ended."""
    return {
        'ray_r1v_run_step{run="a"}': step,
        'ray_r1v_run_steps{run="a"}': "10x200",
        'ray_r1v_run_last_step_timestamp_seconds{run="a"}': time,
    }


CALLS = 'ray_r1v_run_calls_total{run="a", role="reward", worker="reward-0"}'
OPEN = 'ray_r1v_run_open_calls{run="a", role="reward", worker="reward-0"}'
GAP = 'ray_r1v_learner_logprob_gap{run="a"}'
BOUND = 'ray_r1v_learner_logprob_gap_bound{run="a"}'
SENT = 'ray_r1v_sync_version{run="a"}'
VERIFIED = 'ray_r1v_sync_verified_version{run="a"}'


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "series", "minutes", "expected"),
    [
        ("NoStep", run_series("0+1x60", "0+60x60"), 9, False),
        ("NoStep", run_series("4x60", "0x60"), 29, False),
        ("NoStep", run_series("4x60", "0x60"), 31, True),
        ("NoStep", run_series("10x60", "0x60"), 31, False),  # it has ended
        ("NoStep", run_series("4x5", "0x5"), 31, True),  # the driver is dead
        ("RewardWorkerHung", {OPEN: "8x20", CALLS: "7x20"}, 4, False),
        ("RewardWorkerHung", {OPEN: "8x20", CALLS: "7x20"}, 6, True),
        ("RewardWorkerHung", {OPEN: "8x20"}, 6, True),  # it has answered none at all
        ("RewardWorkerHung", {OPEN: "8x20", CALLS: "0+1x20"}, 12, False),
        ("RewardWorkerHung", {OPEN: "0x20", CALLS: "7x20"}, 12, False),
        ("LogprobGapOverBound", {GAP: "0.4x5", BOUND: "0.5x5"}, 2, False),
        ("LogprobGapOverBound", {GAP: "0.6x5", BOUND: "0.5x5"}, 2, True),
        ("SyncUnverified", {SENT: "3x30", VERIFIED: "2x30"}, 14, False),
        ("SyncUnverified", {SENT: "3x30", VERIFIED: "2x30"}, 16, True),
        ("SyncUnverified", {SENT: "0x30"}, 16, True),  # not even the first
        ("SyncUnverified", {SENT: "0+1x30", VERIFIED: "0+1x30"}, 20, False),
    ],
)
def test_an_alert_fires_when_it_is_provoked_and_not_otherwise(
    alert: str, series: dict[str, str], minutes: float, expected: bool, tmp_path: Path
) -> None:
    assert fires(alert, series, minutes, tmp_path) is expected
