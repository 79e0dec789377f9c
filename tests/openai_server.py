"""A real HTTP server on this machine that speaks the OpenAI API, well or badly, as it is told."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = int | Literal["no JSON", "no choices", "drop", "drop halfway"]
"""A status of HTTP; 200 and a text that is no JSON, or JSON without choices; a connection that is
closed before, or within, the reply."""


@dataclass
class Server:
    """What was asked, and how to reply."""

    reply: Callable[[dict[str, Any]], str | dict[str, Any]]
    """The text of a chat completion for a request's body, or a message with more fields."""
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Fault] = field(default_factory=list)
    """What goes wrong with the next requests, one each."""
    delay_s: float = 0.0
    """Taken by every reply."""
    finish_reason: str = "stop"
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """A whole reply; each word of its text counts as a token."""
        said = self.reply(body)
        message = {"content": said} if isinstance(said, str) else said
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": self.finish_reason,
                    "message": {"role": "assistant", **message},
                }
            ],
            "usage": {
                "prompt_tokens": 1,
                "completion_tokens": len(str(message["content"]).split()),
                "total_tokens": 1,
            },
        }


def _handler(state: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.asked.append(body)
                fault = state.failures.pop(0) if state.failures else 200
                state.under_way += 1
                state.most_under_way = max(state.most_under_way, state.under_way)
            try:
                time.sleep(state.delay_s)
                self._reply(body, fault)
            finally:
                with state.lock:
                    state.under_way -= 1

        def _reply(self, body: dict[str, Any], fault: Fault) -> None:
            if fault == "drop":
                self._hang_up()
                return
            if fault == "no JSON":
                sent = b"<html>busy</html>"
            elif fault == "no choices":
                sent = b'{"object": "chat.completion", "choices": []}'
            elif fault in (200, "drop halfway"):
                sent = json.dumps(state.completion(body)).encode()
            else:
                sent = b'{"error": {"message": "as the test wants it"}}'
            self.send_response(fault if isinstance(fault, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent[: len(sent) // 2] if fault == "drop halfway" else sent)
            if fault == "drop halfway":
                self._hang_up()

        def _hang_up(self) -> None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def openai_server(reply: Callable[[dict[str, Any]], str | dict[str, Any]]) -> Iterator[Server]:
    """A server on a port of its own, ended with the block."""
    state = Server(reply)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
