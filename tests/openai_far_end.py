"""A far end that speaks OpenAI's chat completions over real HTTP: it answers as a model would, and fails as servers do.

Knows nothing of our client. Each answer bears a number, so that a test can tell which of them reached a dataset.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = [chr(0x4E00 + i * 7) for i in range(2000)]
NUMBER = re.compile(r"第(\d+)号")


@dataclass(frozen=True)
class Fault:
    """What comes instead of an answer. `drop` closes the connection; `delay` is in seconds, and also of answers."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    drop: bool = False
    delay: float = 0.0


@dataclass
class FarEnd:
    """What the server saw and how it behaves. `faults(n, body)` may name a fault for the n-th request (from 0)."""

    faults: Callable[[int, dict[str, Any]], Fault | None] = lambda _n, _body: None
    wrap: Callable[[str, int], str] = lambda text, _number: text
    usage: bool = True
    key: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)  # the prompts, in the order in which their answers were sent
    under_way: int = 0
    most_under_way: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    on_answer: Callable[[int], None] = lambda _count: None

    def kinds(self) -> Counter[str]:
        """How many answers of each kind were sent."""
        return Counter(kind_of(prompt) for prompt in self.answered)

    def times(self, prompt: str) -> int:
        """How often this prompt was answered."""
        return self.answered.count(prompt)


def kind_of(prompt: str) -> str:
    """Which of our prompts it is, by the JSON that it asks for."""
    for kind, sign in {"profile": '"first_words"', "topics": '"topics"', "dialogue": '"dialogue"'}.items():
        if sign in prompt:
            return kind
    return "restyle"


def said(number: int, length: int = 24) -> str:
    """Words that no other number says."""
    drawn = random.Random(number)
    return f"第{number}号" + "".join(drawn.choice(WORDS) for _ in range(length))


def content(prompt: str, number: int) -> str:
    """What a model that understood would write."""
    kind = kind_of(prompt)
    if kind == "profile":
        sketch = {"profile": "你住在海底。", "speech": "爱笑。", "catchphrases": ["我准备好了"], "greeting": "你好呀！"}
        return json.dumps(sketch | {"first_words": ["今天天气真好！", "来抓水母吗？"]}, ensure_ascii=False)
    if kind == "topics":
        return json.dumps({"topics": [said(number * 100 + i, 8) for i in range(25)]}, ensure_ascii=False)
    if kind == "restyle":
        return json.dumps({"answer": f"哦，我的老伙计，{said(number)}"}, ensure_ascii=False)
    turns = [{"role": "user", "content": said(number)}, {"role": "assistant", "content": said(number, 30)}]
    if 'role 是 "assistant"' in prompt:
        turns.insert(0, {"role": "assistant", "content": said(number, 12)})
    return json.dumps({"dialogue": turns}, ensure_ascii=False)


@contextmanager
def far_end(**behaviour: Any) -> Iterator[FarEnd]:
    """The server, listening on a free port of loopback until the block ends."""
    state = FarEnd(**behaviour)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def _handler(state: FarEnd) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": "tiny", "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                number = len(state.seen)
                state.seen.append(body)
                state.under_way += 1
                state.most_under_way = max(state.most_under_way, state.under_way)
            try:
                self._answer(number, body)
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                with state.lock:
                    state.under_way -= 1

        def _answer(self, number: int, body: dict[str, Any]) -> None:
            if state.key and self.headers.get("Authorization") != f"Bearer {state.key}":
                shown = self.headers.get("Authorization", "")
                return self._send(
                    401, {"error": {"message": f"Incorrect API key provided: {shown}", "code": "invalid_api_key"}}
                )
            fault = state.faults(number, body)
            if fault and fault.delay:
                time.sleep(fault.delay)
            if fault and fault.drop:
                self.close_connection = True
                return self.connection.close()
            if fault and fault.status:
                return self._send(fault.status, fault.body or {"error": {"message": "no"}}, fault.headers)
            prompt = body["messages"][-1]["content"]
            text = state.wrap(content(prompt, number), number)
            row: dict[str, Any] = {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            }
            if state.usage:
                row["usage"] = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
            with state.lock:
                state.answered.append(prompt)
                count = len(state.answered)
            self._send(200, row)
            state.on_answer(count)

        def _send(self, status: int, row: Any, headers: dict[str, str] | None = None) -> None:
            whole = json.dumps(row).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(whole)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(whole)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
