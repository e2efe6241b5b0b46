"""Requests to a server, raw: fields of wrong types, odd HTTP, half requests, keys, hosts, origins."""

import gzip
import json
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.trials.damage import VALUES, mutated

QUESTION = [{"role": "user", "content": "east?"}]
CHAT: dict[str, Any] = {"messages": QUESTION, "max_tokens": 2, "temperature": 0}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FIELDS: dict[str, Any] = {
    "model": "run", "messages": QUESTION, "max_tokens": 2, "max_completion_tokens": 2, "n": 1,
    "temperature": 0.5, "top_p": 0.9, "min_p": 0.1, "top_k": 5, "seed": 1, "stop": ["x"],
    "presence_penalty": 0.1, "frequency_penalty": 0.1, "logit_bias": {"5": 1.0}, "stream": False,
    "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 2,
    "response_format": {"type": "json_object"}, "tools": [TOOL], "tool_choice": "auto",
    "grammar": 'root ::= "a"', "reasoning_format": "none", "user": "me", "cache_prompt": True,
    "parallel_tool_calls": True, "chat_template_kwargs": {}, "repeat_penalty": 1.1,
    "n_probs": 1, "ignore_eos": False, "samplers": ["top_k"], "mirostat": 0, "lora": [], "dry_multiplier": 0.1,
}  # fmt: skip
"""Fields of a request, each with a value that is right."""
HOST = "127.0.0.1"
Send = tuple[str, bytes, tuple[int, ...] | None]
"""What is sent, its bytes, and the statuses that are right; None: any below 500, or none at all."""


def field_requests(field: str, chance: random.Random) -> Iterator[Send]:
    """Yield requests in which one field has values of other types."""
    route = "/v1/chat/completions"
    for value in chance.sample(VALUES, 6):
        body = {**CHAT, field: value}
        yield f"{field}={_short(value)}", post(route, body), None
    yield f"{field} inside", post(route, {**CHAT, field: mutated(FIELDS[field], chance)}), None


def random_request(chance: random.Random) -> Send:
    """Return a request with several changes anywhere in it."""
    chosen = chance.sample(list(FIELDS), chance.randint(1, 8))
    body: Any = CHAT | {name: FIELDS[name] for name in chosen}
    route = "/v1/chat/completions"
    if chance.random() < 0.3:
        route, body = "/v1/completions", {"prompt": "east", **body}
        body.pop("messages")
    for _ in range(chance.randint(1, 3)):
        body = mutated(body, chance)
    return _short(body), post(route, body), None


def _short(value: Any) -> str:
    return ascii(value)[:60]


def post(route: str, body: Any, headers: dict[str, str] | None = None) -> bytes:
    """Return a POST of JSON."""
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    return raw("POST", route, content, headers)


def raw(method: str, route: str, content: bytes, headers: dict[str, str] | None = None) -> bytes:
    """Return a request as it is written."""
    lines = {"Host": HOST, "Content-Type": "application/json", "Connection": "close"}
    lines |= {"Content-Length": str(len(content))} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {route} HTTP/1.1\r\n{head}\r\n".encode("utf-8", "surrogateescape") + content


def odd_requests(chance: random.Random) -> dict[str, Callable[[], Send]]:
    """Return odd forms of HTTP by their names."""
    route, good = "/v1/chat/completions", json.dumps(CHAT).encode()

    def form(content: bytes, statuses: tuple[int, ...] | None = None) -> Callable[[], Send]:
        return lambda: ("", content, statuses)

    def sent(content: bytes, headers: dict[str, str], *statuses: int) -> Callable[[], Send]:
        return form(raw("POST", route, content, headers), statuses)

    bomb = gzip.compress(b" " * (70 * 2**20), 1, mtime=0)
    return {
        "no JSON": sent(b"{", {}, 400),
        "deep JSON": sent(b"[" * 100_000, {}, 400),
        "a list": sent(b"[]", {}, 400),
        "nothing": sent(b"", {}, 400),
        "no UTF-8": sent(b'{"messages": "\xff\xfe"}', {}, 400),
        "gzip": sent(gzip.compress(good, mtime=0), {"Content-Encoding": "gzip"}, 200, 400),
        "broken gzip": sent(b"\x1f\x8bxx" + chance.randbytes(40), {"Content-Encoding": "gzip"}, 400),
        "gzip that is none": sent(good, {"Content-Encoding": "gzip"}, 400),
        "unknown encoding": sent(good, {"Content-Encoding": "x"}, 200, 400, 415),
        "a body that grows": sent(bomb, {"Content-Encoding": "gzip"}, 400, 413),
        "a body of 65 MiB": sent(b" " * (65 * 2**20), {}, 413),
        "more than promised": form(raw("POST", route, good + b"xxxx", {"Content-Length": str(len(good))}), (200,)),
        "a negative length": sent(good, {"Content-Length": "-1"}, 400),
        "a length in words": sent(good, {"Content-Length": "many"}, 400),
        "length and chunks": sent(good, {"Transfer-Encoding": "chunked"}, 400),
        "bad chunks": form(raw("POST", route, b"zz\r\n" + good, {"Transfer-Encoding": "chunked"}).replace(b"Content-Length", b"X-Length")),
        "no version": form(b"GET /health\r\n\r\n"),
        "no HTTP": form(chance.randbytes(300) + b"\r\n\r\n"),
        "a long line": form(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"),
        "many headers": form(raw("GET", "/health", b"", {f"X-{i}": "x" for i in range(2000)})),
        "a long header": form(raw("GET", "/health", b"", {"X": "x" * 100_000})),
        "a header of bytes": form(raw("GET", "/v1/models", b"", {"Authorization": "Bearer \udcff"})),
        "another method": form(raw("BREW", route, b""), (400, 404, 405)),
        "GET of a POST": form(raw("GET", route, b""), (405,)),
        "another route": form(raw("GET", "/v1/none", b""), (404,)),
        "dots": form(raw("GET", "/v1/../../etc/passwd", b""), (400, 403, 404)),
        "another host": form(raw("GET", "/v1/models", b"", {"Host": "evil.example"}), (403,)),
        "no host": form(b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n", (400, 403)),
        "two hosts": form(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", (400, 403)),
        "another origin": form(post(route, CHAT, {"Origin": "https://evil.example"}), (403,)),
        "origin null": form(post(route, CHAT, {"Origin": "null"}), (403,)),
        "a page's text": form(post(route, CHAT, {"Origin": "https://evil.example", "Content-Type": "text/plain"}), (403,)),
        "preflight": form(raw("OPTIONS", route, b"", {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}), (403,)),
        "an unknown model": form(post(route, CHAT | {"model": "none"}), (404,)),
        "too long": form(post(route, CHAT | {"messages": [{"role": "user", "content": "rain " * 5000}]}), (400,)),
        "an image": form(post(route, CHAT | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}), (400,)),
        "a hidden slot": form(raw("GET", "/slots", b""), (404,)),
        "hidden properties": form(raw("GET", "/props", b""), (404,)),
    }  # fmt: skip


def answer(port: int, request: bytes, seconds: float = 60) -> bytes:
    """Send a request and return the answer; empty where the connection is closed without one."""
    with socket.create_connection((HOST, port), timeout=seconds) as connection:
        received = b""
        try:
            connection.sendall(request)
            while part := connection.recv(65536):
                received += part
        except (ConnectionError, BrokenPipeError):
            pass
    return received


def half(port: int, request: bytes, chance: random.Random, count: int = 40) -> list[socket.socket]:
    """Return connections that have sent a part of a request, and wait."""
    connections = []
    for _ in range(count):
        connection = socket.create_connection((HOST, port), timeout=60)
        connection.sendall(request[: chance.randrange(len(request))])
        connections.append(connection)
    return connections
