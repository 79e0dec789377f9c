"""Replies that were paid for once."""

import sqlite3
import threading
from pathlib import Path


class ReplyCache:
    """Replies by key, in an SQLite file that actors of one machine may share, or in memory."""

    def __init__(self, path: str | None) -> None:
        file = Path(path).expanduser() if path is not None else None
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._file = sqlite3.connect(file or ":memory:", check_same_thread=False, timeout=30.0)
        with self._file:
            self._file.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply)")

    def get(self, key: str) -> str | None:
        """The reply kept under `key`, or None."""
        with self._lock:
            row = self._file.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, reply: str) -> None:
        """Keep `reply` under `key`."""
        with self._lock, self._file:
            self._file.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, reply))
