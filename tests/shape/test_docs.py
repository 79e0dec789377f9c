"""Commands in the docs are given as a shell takes them."""

import re

from tests.repository import ROOT

MAPPING_OR_LIST = re.compile(r"""(["']?)(?<![\w.])[a-z_]+(?:\.[a-z_]+)*=[{\[]""")


def test_an_override_with_braces_or_brackets_is_quoted_for_the_shell() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
            for override in MAPPING_OR_LIST.finditer(line):
                assert override[1], f"{page.name}:{number}: {line[override.start() :]}"
