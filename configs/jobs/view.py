"""The schema of what is looked at."""

from typing import Annotated

from pydantic import Field

from configs.schema.base import StrictModel


class ViewRecipe(StrictModel):
    """The page of one run, or of two side by side."""

    runs: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    """Run folders: one, or two that are compared; on the command line they stand by themselves:
    `python rl/view.py runs/x runs/y`."""
    open: bool = False
    """Open the page in this machine's browser."""
