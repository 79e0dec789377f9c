"""Grafana's dashboards: `python -m rl.monitoring.dashboards` writes them to configs/grafana."""

import json
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from rl.monitoring.metrics import metric
from rl.monitoring.panels import DASHBOARDS, Panel

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "grafana"

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_UNITS = {"s": "s", "bytes": "bytes", "share": "percentunit", "": "short"}
"""Grafana's names of units; others stand behind the number."""
_ACROSS, _WIDTH, _HEIGHT = 2, 12, 8
"""Panels side by side, and their size; a dashboard is 24 wide."""

_VARIABLES: list[dict[str, Any]] = [
    {"name": "datasource", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 2},
    {
        "name": "run",
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": f"label_values({metric('run_steps').series}, run)", "refId": "run"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    },
]
"""As in Ray's own dashboards, the data source is a variable; the run is chosen at the top."""


def dashboard(name: str) -> dict[str, Any]:
    """A dashboard as Grafana's JSON."""
    return {
        "uid": f"r1v-{name}",
        "title": f"r1v {name}",
        "tags": ["r1v"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["r1v"], "title": "r1v", "keepTime": True}],
        "templating": {"list": _VARIABLES},
        "panels": [_panel(place, panel) for place, panel in enumerate(DASHBOARDS[name])],
    }


def _panel(place: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(place, _ACROSS)
    names = dict.fromkeys(name for query in panel.queries for name in query.metrics)
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": "; ".join(f"{metric(n).series}: {metric(n).description}" for n in names),
        "datasource": _DATASOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": _UNITS.get(panel.unit, f"suffix: {panel.unit}")},
            "overrides": [],
        },
        "targets": [
            {"refId": letter, "expr": query.expression, "legendFormat": query.legend}
            for letter, query in zip(ascii_uppercase, panel.queries, strict=False)
        ],
    }


def dashboard_text(name: str) -> str:
    """What its file holds."""
    return json.dumps(dashboard(name), indent=1) + "\n"


if __name__ == "__main__":
    for each in DASHBOARDS:
        (FOLDER / f"{each}.json").write_text(dashboard_text(each), "utf-8")
