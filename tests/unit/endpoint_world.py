"""An OpenAI-compatible server on this machine that misbehaves as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from patience import PATIENCE

Body = dict[str, Any]


def answer(text: str, body: Body, finish: str = "stop", **more: Any) -> Body:
    """A well-formed answer; the completion costs a token for each word, the prompt likewise."""
    chat = "messages" in body
    prompt = body["messages"][0]["content"] if chat else body["prompt"]
    spoken: Body = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
    return {"choices": [{**spoken, "finish_reason": finish}], "usage": usage, **more}


def judgement(body: Body) -> str:
    """Scores that depend on the seed alone."""
    seed = body["seed"]
    return f"Scores: \\boxed{{{seed % 10 + 1}, {seed // 10 % 10 + 1}}}"


@dataclass
class Act:
    """What to do with a request: an answer, or one of the ways to fail."""

    status: int = 200
    content: Any = None  # JSON to answer; the usual judgement if None
    raw: bytes | None = None  # bytes in its place
    headers: dict[str, str] = field(default_factory=dict)
    half: bool = False  # announce all bytes, send half, close
    hang: bool = False  # say nothing until the server is closed


Script = Callable[[int, Body], Act]  # from the number of tries for this seed so far, and the body


@dataclass
class Server:
    """Its URL, and what it saw."""

    url: str
    script: Script
    bodies: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)  # seeds that got a whole good answer
    most: int = 0  # requests under way at one time
    together: threading.Barrier | None = None  # each answer waits for this many requests
    over: threading.Event = field(default_factory=threading.Event)
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tries(self, seed: int) -> int:
        return sum(body["seed"] == seed for body in self.bodies)

    def begin(self, body: Body, headers: dict[str, str]) -> Act:
        with self._lock:
            tried = self.tries(body["seed"])
            self.bodies.append(body)
            self.headers.append(headers)
            self._now += 1
            self.most = max(self.most, self._now)
            act = self.script(tried, body)
            if (
                act.status == 200
                and act.content is None
                and act.raw is None
                and not (act.half or act.hang)
            ):
                self.answered.append(body["seed"])
            return act

    def end(self) -> None:
        with self._lock:
            self._now -= 1


@contextmanager
def served(script: Script = lambda tried, body: Act()) -> Iterator[Server]:
    """A server that follows the script, on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body["path"] = self.path
            act = server.begin(body, dict(self.headers))
            try:
                if server.together:
                    server.together.wait(PATIENCE)
                if act.hang:
                    server.over.wait(PATIENCE)
                self._send(act, body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                server.end()

        def _send(self, act: Act, body: Body) -> None:
            content = answer(judgement(body), body) if act.content is None else act.content
            sent = json.dumps(content).encode() if act.raw is None else act.raw
            self.send_response(act.status)
            for name, value in act.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent[: len(sent) // 2] if act.half else sent)
            self.close_connection = act.half or self.close_connection

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(f"http://127.0.0.1:{http.server_port}/v1", script)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        http.shutdown()
        http.server_close()
        thread.join()
