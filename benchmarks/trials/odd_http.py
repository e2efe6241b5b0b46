"""Odd forms of HTTP: broken bodies and heads, other hosts, origins and routes."""

import gzip
import json
import random
from collections.abc import Callable

from benchmarks.trials.requests import CHAT, Send, post, raw

ROUTE = "/v1/chat/completions"
EVIL = "https://evil.example"
REFUSED = (400, 403)


def odd_requests(chance: random.Random) -> dict[str, Callable[[], Send]]:
    """Return requests by their names."""
    return bodies(chance) | heads(chance) | callers() | contents()


def _form(content: bytes, *statuses: int) -> Callable[[], Send]:
    return lambda: ("", content, statuses or None)


def _no_http(content: bytes, *statuses: int) -> Callable[[], Send]:
    """Return a request that ends before it is one, and is refused in plain words."""
    return lambda: ("plain", content, statuses)


def _post(content: bytes, headers: dict[str, str], *statuses: int) -> Callable[[], Send]:
    return _form(raw("POST", ROUTE, content, headers), *statuses)


def bodies(chance: random.Random) -> dict[str, Callable[[], Send]]:
    """Return bodies that are not what they say."""
    good = json.dumps(CHAT).encode()
    zipped = {"Content-Encoding": "gzip"}
    chunked = raw("POST", ROUTE, b"zz\r\n" + good, {"Transfer-Encoding": "chunked"})
    short = {"Content-Length": str(len(good))}
    return {
        "no JSON": _post(b"{", {}, 400),
        "deep JSON": _post(b"[" * 100_000, {}, 400),
        "a list": _post(b"[]", {}, 400),
        "nothing": _post(b"", {}, 400),
        "no UTF-8": _post(b'{"messages": "\xff\xfe"}', {}, 400),
        "gzip": _post(gzip.compress(good, mtime=0), zipped, 200, 400),
        "broken gzip": _post(b"\x1f\x8bxx" + chance.randbytes(40), zipped, 400),
        "gzip that is none": _post(good, zipped, 400),
        "unknown encoding": _post(good, {"Content-Encoding": "x"}, 200, 400, 415),
        "a body that grows": _post(
            gzip.compress(b" " * (70 * 2**20), 1, mtime=0), zipped, 400, 413
        ),
        "a body of 65 MiB": _post(b" " * (65 * 2**20), {}, 413),
        "more than promised": _form(raw("POST", ROUTE, good + b"xxxx", short)),
        "bad chunks": _form(chunked.replace(b"Content-Length", b"X-Length")),
    }


def heads(chance: random.Random) -> dict[str, Callable[[], Send]]:
    """Return heads that are no HTTP, or too much of it."""
    return {
        "a negative length": _form(raw("POST", ROUTE, b"", {"Content-Length": "-1"})),
        "a length in words": _form(raw("POST", ROUTE, b"", {"Content-Length": "many"})),
        "length and chunks": _form(raw("POST", ROUTE, b"{}", {"Transfer-Encoding": "chunked"})),
        "no version": _form(b"GET /health\r\n\r\n"),
        "no HTTP": _form(chance.randbytes(300) + b"\r\n\r\n"),
        "a long line": _form(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"),
        "many headers": _form(raw("GET", "/health", b"", {f"X-{i}": "x" for i in range(2000)})),
        "a long header": _form(raw("GET", "/health", b"", {"X": "x" * 100_000})),
        "a header of bytes": _form(
            raw("GET", "/v1/models", b"", {"Authorization": "Bearer \udcff"})
        ),
        "another method": _no_http(raw("BREW", ROUTE, b""), 400, 404, 405),
        "GET of a POST": _form(raw("GET", ROUTE, b""), 405),
        "another route": _form(raw("GET", "/v1/none", b""), 404),
        "dots": _form(raw("GET", "/v1/../../etc/passwd", b""), 400, 403, 404),
    }


def callers() -> dict[str, Callable[[], Send]]:
    """Return requests of pages and names that were not allowed, and for what is not served."""
    page = {"Origin": EVIL}
    host = b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n"
    preflight = page | {"Access-Control-Request-Method": "POST"}
    return {
        "another host": _form(raw("GET", "/v1/models", b"", {"Host": "evil.example"}), 403),
        "no host": _no_http(host + b"\r\n", *REFUSED),
        "two hosts": _no_http(host + b"Host: 127.0.0.1\r\nHost: evil.example\r\n\r\n", *REFUSED),
        "another origin": _form(post(ROUTE, CHAT, page), 403),
        "origin null": _form(post(ROUTE, CHAT, {"Origin": "null"}), 403),
        "a page's text": _form(post(ROUTE, CHAT, page | {"Content-Type": "text/plain"}), 403),
        "preflight": _form(raw("OPTIONS", ROUTE, b"", preflight), 403),
        "hidden slots": _form(raw("GET", "/slots", b""), 404),
        "hidden properties": _form(raw("GET", "/props", b""), 404),
    }


def contents() -> dict[str, Callable[[], Send]]:
    """Return requests that cannot be done."""
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    return {
        "an unknown model": _form(post(ROUTE, CHAT | {"model": "none"}), 404),
        "too long": _form(post(ROUTE, CHAT | {"messages": _question("rain " * 5000)}), 400),
        "an image": _form(post(ROUTE, CHAT | {"messages": _question(image)}), 400),
    }


def _question(content: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content}]
