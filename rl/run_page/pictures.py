"""Where a run's page finds the images of its samples: in the run's folder, and nowhere else."""

import hashlib
from pathlib import Path

from rl.data.images import BadImage, open_image
from rl.storage.atomic import atomic_file

_WIDEST = 768
"""Pixels of a copy's longer side."""


class Pictures:
    """Names of images in samples to places in the run's folder."""

    def __init__(self, run: Path, copies: Path, *, copy: bool) -> None:
        """`copies`: a folder in `run` for small copies of images that lie elsewhere.

        `copy`: whether to make them. A run does, of its own data's images; whoever reads a run's
        files later does not, since they may name any file of the machine.
        """
        self._run = run
        self._copies = copies
        self._copy = copy
        self._known: dict[str, dict[str, str]] = {}

    def __call__(self, name: str) -> dict[str, str]:
        """{"src": place below the run's folder}, or {"path": name} where there is none."""
        if name not in self._known:
            place = self._inside(name) or self._copied(name)
            self._known[name] = {"src": place} if place else {"path": name}
        return self._known[name]

    def _inside(self, name: str) -> str | None:
        if Path(name).is_absolute():
            return None
        run, place = self._run.resolve(), (self._run / name).resolve()
        if place.is_relative_to(run) and place.is_file():
            return place.relative_to(run).as_posix()
        return None

    def _copied(self, name: str) -> str | None:
        """A copy made now or in an earlier part of the run; None without."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:20]
        target = self._copies / f"{digest}.jpg"
        if not target.is_file():
            if not self._copy:
                return None
            try:
                image = open_image(name)
            except BadImage:  # told by the path that is shown in its place
                return None
            image.thumbnail((_WIDEST, _WIDEST))
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(target) as aside:
                image.save(aside, "JPEG", quality=85)
        return target.relative_to(self._run).as_posix()
