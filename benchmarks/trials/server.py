"""A server under odd requests: answers below 500 in OpenAI's form, no traceback, up afterwards."""

import atexit
import json
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.trials.kills import RUN, await_health, free_port
from benchmarks.trials.materials import Materials
from benchmarks.trials.odd_http import odd_requests
from benchmarks.trials.requests import (
    CHAT,
    FIELDS,
    Send,
    answer,
    field_requests,
    half,
    post,
    random_request,
    raw,
)
from benchmarks.trials.runner import MEMORY, Started, TrialError, last_lines, resident

RANDOM = 120


def trials() -> Iterator[tuple[str, Callable[[Materials, str, random.Random], None]]]:
    """Yield each field, odd forms of HTTP, random requests, keys and half requests."""
    for field in FIELDS:
        yield f"field-{field}", _field
    for form in odd_requests(random.Random(0)):
        yield f"odd-{form}", _odd
    for number in range(RANDOM):
        yield f"random-{number}", _random
    yield "half-requests", _half
    for key in ("", " ", "sesame"):
        yield f"key-{key!r}", _key
    for arguments in ("--port -1", "--port 99999", "--port x", "--context 0", "--context 2000000000",
                      "--slots 0", "--slots 999999", "--host 256.1.1.1", "--host nowhere.invalid",
                      "--allow-origin x"):  # fmt: skip
        yield f"arguments {arguments}", _arguments
    yield "port-taken", _taken


class _Running:
    """A server that answers one trial after another, started again where one ended it."""

    def __init__(self) -> None:
        self.process: Started | None = None
        self.port, self.read = 0, 0

    def up(self, materials: Materials) -> int:
        """Return the port of a server that is up."""
        if self.process is None or not self.process.running():
            place = materials.place("server", RUN)
            self.port, self.read = free_port(), 0
            command = ("serve", "run", "--port", str(self.port), "--context", "128", "--slots", "2")
            self.process = place.start(*command)
            await_health(self.process, self.port)
        return self.port

    def check(self) -> None:
        """Check that it is up still, wrote no traceback and takes no more memory than it may."""
        assert self.process is not None
        output = self.process.output
        new, self.read = output[self.read :], len(output)
        if not self.process.running():
            raise TrialError("died", last_lines(output))
        if "Traceback (most recent call last)" in new:
            raise TrialError("traceback", last_lines(new))
        if b" 200 " not in answer(self.port, raw("GET", "/health", b""))[:20]:
            raise TrialError("broken promise", "the server does not answer any more")
        if resident(self.process.pid) > MEMORY:
            raise TrialError("memory", f"{resident(self.process.pid) / 1e9:.1f} GB")


_SERVER = _Running()
atexit.register(lambda: _SERVER.process and _SERVER.process.kill())


def _ask(materials: Materials, sends: Iterator[Send] | list[Send]) -> None:
    for what, request, statuses in sends:
        port = _SERVER.up(materials)
        try:
            received = answer(port, request)
        except TimeoutError:
            _SERVER.process and _SERVER.process.kill()
            raise TrialError("hang", what) from None
        _judge(what, received, statuses)
        try:
            _SERVER.check()
        except TrialError as e:
            raise TrialError(e.kind, f"{what}: {e.why}") from None


def _judge(what: str, received: bytes, statuses: tuple[int, ...] | None) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    if not head:
        if statuses is not None:
            raise TrialError("no sentence", f"{what}: no answer")
        return
    status = int(head.split()[1])
    if status >= 500 or (statuses is not None and status not in statuses):
        raise TrialError("broken promise", f"{what}: status {status} {body[:200]!r}")
    if status >= 400 and statuses is not None and not what.endswith(" plain"):
        _check_form(what, body)


def _check_form(what: str, body: bytes) -> None:
    try:
        error: Any = json.loads(body)["error"]
        right = isinstance(error["message"], str) and isinstance(error["code"], str | None)
    except (ValueError, KeyError, TypeError):
        right = False
    if not right:
        raise TrialError("broken promise", f"{what}: not in OpenAI's form: {body[:120]!r}")


def _field(materials: Materials, name: str, chance: random.Random) -> None:
    _ask(materials, field_requests(name.split("field-")[1], chance))


def _odd(materials: Materials, name: str, chance: random.Random) -> None:
    form = name.split("odd-")[1]
    what, request, statuses = odd_requests(chance)[form]()
    _ask(materials, [(f"{form} {what}", request, statuses)])


def _random(materials: Materials, name: str, chance: random.Random) -> None:
    _ask(materials, [random_request(chance) for _ in range(5)])


def _half(materials: Materials, name: str, chance: random.Random) -> None:
    """Half requests are given up after 30 s, and keep nobody out meanwhile."""
    port = _SERVER.up(materials)
    waiting = half(port, post("/v1/chat/completions", CHAT), chance)
    _SERVER.check()
    for connection in waiting:
        connection.settimeout(50)
        try:
            connection.recv(65536)  # an answer, or the end
        except TimeoutError:
            raise TrialError("hang", "a half request is held for more than 50 s") from None
        except ConnectionError:
            pass
        connection.close()
    _SERVER.check()


def _key(materials: Materials, name: str, chance: random.Random) -> None:
    """An empty key is refused at the start; a right one is asked of every request."""
    place = materials.place(name, RUN)
    key, port = name.split("'")[1], free_port()
    command = ("serve", "run", "--port", str(port), "--context", "128", "--api-key", key)
    process = place.start(*command)
    if not key.strip():
        if process.wait().check().code == 0:
            raise TrialError("broken promise", "an empty key was taken")
        return
    await_health(process, port)
    for authorization, right in (
        (None, 401),
        ("Bearer", 401),
        ("Bearer x", 401),
        (f"Bearer {key}", 200),
    ):
        headers = {} if authorization is None else {"Authorization": authorization}
        _judge(str(authorization), answer(port, raw("GET", "/v1/models", b"", headers)), (right,))
    _locked_engine(process, port)
    process.send(signal.SIGTERM)
    process.wait().check(signals=(signal.SIGTERM,))
    materials.clear(place)


def _locked_engine(process: Started, port: int) -> None:
    """Check that every other port of the process asks for a key that nobody else has."""
    for other in _listening(process.pid) - {port}:
        _, _, body = answer(other, post("/v1/chat/completions", CHAT)).partition(b"\r\n\r\n")
        if b"choices" in body:
            raise TrialError("broken promise", "the engine answers without a key")


def _listening(pid: int) -> set[int]:
    """Return the ports that a process listens on."""
    from pathlib import Path

    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except OSError:
            continue
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {
        int(r[1].split(":")[1], 16) for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in sockets
    }


def _arguments(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name, RUN)
    arguments = name.split("arguments ")[1].split()
    if "--port" not in arguments:
        arguments += ["--port", "0"]
    ended = place.run("serve", "run", *arguments).check()
    if ended.code == 0:
        raise TrialError("broken promise", f"{' '.join(arguments)} was taken")
    materials.clear(place)


def _taken(materials: Materials, name: str, chance: random.Random) -> None:
    port = _SERVER.up(materials)
    place = materials.place(name, RUN)
    ended = place.run("serve", "run", "--port", str(port), "--context", "128").check()
    if ended.code == 0 or str(port) not in ended.sentence:
        raise TrialError("no sentence", f"the port is not named: {ended.sentence}")
    materials.clear(place)
