"""What a dead actor said last: Ray keeps each worker's output in a file that nobody looks into."""

import re
from pathlib import Path

import ray

_LINES = 20
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PROCESS = re.compile(r"\bpid[:=] ?(\d+).*?\bip[:=] ?([\w.:]+)", re.DOTALL)


def crash_report(error: Exception) -> str:
    """The error's text; of a dead actor also the last lines of its log, with the path to it."""
    text = _COLOURS.sub("", str(error)).strip()
    process = _PROCESS.search(text)
    if process is None:
        return text
    pid, address = process.group(1), process.group(2).rstrip(",")
    if address != ray.util.get_node_ip_address():
        return f"{text}\nIts log: session_latest/logs/worker-*-{pid}.err on the node {address}"
    return "\n".join([text, *_tails(pid)])


def _tails(pid: str) -> list[str]:
    told: list[str] = []
    for path in sorted(_log_folder().glob(f"worker-*-{pid}.*")):
        lines = [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            told.append(f"Last lines of {path}:")
            told += [f"    {_COLOURS.sub('', line)}" for line in lines[-_LINES:]]
    return told


def _log_folder() -> Path:
    context = ray.get_runtime_context()
    return Path(context.get_temp_dir()) / context.get_session_name() / "logs"
