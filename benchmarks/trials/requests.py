"""Requests to a server, raw: fields of wrong types, odd HTTP, half requests, keys, hosts, origins."""

import json
import random
import socket
from collections.abc import Iterator
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
    "n_probs": 1, "ignore_eos": False, "samplers": ["top_k"], "mirostat": 0, "lora": [],
    "dry_multiplier": 0.1,
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
