"""The HTML file of a page: markup, style and script in one, and no figure of any run."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from rl.storage.atomic import atomic_file

_SOURCES = Path(__file__).with_name("page")
_SCRIPTS = (
    "elements",
    "data",
    "chart",
    "curves",
    "filters",
    "gallery",
    "tokens",
    "sample",
    "tables",
    "main",
)
"""In the order in which a browser reads them."""


def write_html(path: Path, title: str, runs: Sequence[str]) -> None:
    """Write the page `path`; `runs`: for each run the way from there to its folder, as a URL."""
    with atomic_file(path) as aside:
        aside.write_text(_html(title, tuple(runs)), "utf-8", errors="xmlcharrefreplace")


def _html(title: str, runs: Sequence[str]) -> str:
    style, script = _style(), _script()
    environment = Environment(loader=FileSystemLoader(_SOURCES), autoescape=True)
    return environment.get_template("page.html").render(
        title=title,
        runs=json.dumps(runs),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


@cache
def _style() -> str:
    return (_SOURCES / "page.css").read_text("utf-8")


@cache
def _script() -> str:
    return "\n".join((_SOURCES / f"{name}.js").read_text("utf-8") for name in _SCRIPTS)


def _hash(text: str) -> str:
    """By which a browser knows the page's own style and script, and runs no other inline."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
