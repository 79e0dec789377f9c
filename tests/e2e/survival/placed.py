"""`rl/grpo.py` on a cluster whose nodes are labelled with the seats that they are for.

python -m tests.e2e.survival.placed WORDS
"""

import runpy
import sys
from typing import Any

from actors.cluster.placement import Placement
from tests.repository import ROOT


def main() -> None:
    """Run it, each actor on a node that bears the label of its role and number."""
    options_for = Placement.options_for

    def placed(self: Placement, role: str, slot: int = 0) -> dict[str, Any]:
        return options_for(self, role, slot) | {"label_selector": {f"{role}-{slot}": "yes"}}

    Placement.options_for = placed  # type: ignore[method-assign]
    script = ROOT / "rl" / "grpo.py"
    sys.argv[0] = str(script)
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
