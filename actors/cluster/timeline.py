"""What the driver does, in Ray's timeline beside what its actors do."""

from contextlib import AbstractContextManager

from ray._private import profiling  # Ray has no public name for it


def span(name: str) -> AbstractContextManager[object]:
    """A span of the driver's time under this name, in `ray timeline`; nothing is noted unless
    RAY_PROFILING=1 is set when the run starts."""
    return profiling.profile("driver", extra_data={"name": name})
