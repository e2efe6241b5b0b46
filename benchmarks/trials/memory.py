"""Want of memory, and rows that are large: a sentence or the result, in bounds of time and memory."""

import contextlib
import json
import os
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.trials.materials import TRAIN, Materials, equal, trained
from benchmarks.trials.runs import with_reason

CGROUPS = Path("/sys/fs/cgroup/memory")
Attempt = Callable[[Materials, str, random.Random], None]


def trials() -> Iterator[tuple[str, Attempt]]:
    """Yield limits of address space and of control groups, and large rows."""
    for number in range(20):
        yield f"address-space-{number}", _address_space
    if CGROUPS.is_dir() and os.access(CGROUPS, os.W_OK):
        for number in range(8):
            yield f"control-group-{number}", _control_group
    for number in range(48):
        yield f"large-{list(LARGE)[number % len(LARGE)]}-{number}", _large


def _address_space(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name)
    more = int(2 ** chance.uniform(20, 30))

    def prepare() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def work() -> None:
        ended = place.run(*TRAIN, prepare=prepare)
        if ended.code < 0 and "more than ulimit -v leaves" in ended.output:
            return  # the plan says so; what libraries do without memory is theirs
        if ended.check().code == 0:
            equal(trained(place.folder / "run"), materials.trained, "the training")

    with_reason(f"{more / 1e6:.0f} MB more", work)
    materials.clear(place)


def _control_group(materials: Materials, name: str, chance: random.Random) -> None:
    """A container's limit, above what the imports need: what does not fit is refused, not killed."""
    place = materials.place(name)
    limit = chance.randrange(550, 900) * 10**6
    group = CGROUPS / place.folder.name
    group.mkdir()

    def prepare() -> None:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))

    def work() -> None:
        if place.run(*TRAIN, prepare=prepare, fresh=True).check().code == 0:
            equal(trained(place.folder / "run"), materials.trained, "the training")

    try:
        with_reason(f"{limit / 1e6:.0f} MB", work)
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()
    materials.clear(place)


def _chat(text: str) -> str:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]
    return json.dumps({"messages": turns}) + "\n"


def _nested(depth: int) -> str:
    return json.dumps({"text": "x", "more": 0}).replace("0", "[" * depth + "]" * depth) + "\n"


LARGE: dict[str, tuple[str, Callable[[int, random.Random], str]]] = {
    "letters": ("jsonl", lambda n, chance: _chat("a" * n)),
    "digits": ("jsonl", lambda n, chance: _chat("7" * n)),
    "spaces": ("jsonl", lambda n, chance: _chat("x" + " " * n + "x")),
    "words": ("jsonl", lambda n, chance: _chat(" ".join(chance.choices(("rain", "hill"), k=n // 5)))),
    "lines": ("jsonl", lambda n, chance: _chat("x\n" * (n // 2))),
    "wide": ("jsonl", lambda n, chance: _chat("海" * (n // 3))),
    "keys": ("jsonl", lambda n, chance: json.dumps({f"k{i}": i for i in range(n // 100)}) + "\n"),
    "key twice": ("jsonl", lambda n, chance: "{" + ", ".join(f'"k{i}": 1' for i in range(n // 100))
                  + ', "k0": 1}\n'),
    "messages": ("jsonl", lambda n, chance: json.dumps({"messages": [
        {"role": role, "content": "x"} for _ in range(n // 400) for role in ("user", "assistant")
    ]}) + "\n"),
    "depth": ("jsonl", lambda n, chance: _nested(n // 100)),
    "pre": ("html", lambda n, chance: "<pre>x" + " " * (n // 4) + "x</pre>"),
    "tags": ("html", lambda n, chance: "<b>" * (n // 30) + "x"),
    "cells": ("csv", lambda n, chance: f'prompt,completion\n"{"x," * (n // 2)}",y\n'),
    "quotes": ("csv", lambda n, chance: f'prompt,completion\n"{chr(34) * 2 * (n // 4)}",y\n'),
    "number": ("jsonl", lambda n, chance: f'{{"prompt": "x", "completion": {"9" * (n // 100)}}}\n'),
    "text": ("txt", lambda n, chance: "rain hill " * (n // 10)),
}  # fmt: skip


def _large(materials: Materials, name: str, chance: random.Random) -> None:
    """One row of one to eight megabytes."""
    place = materials.place(name)
    suffix, build = LARGE[name.split("large-")[1].rsplit("-", 1)[0]]
    size = chance.choice((1, 2, 8)) * 10**6
    file = place.folder / f"data.{suffix}"
    file.write_text(build(size, chance), encoding="utf-8")
    small = ("--max-steps", "1", "--bits", "32", "--max-length", "128", "--held-out", "0")
    commands = (
        ("data", "check", file.name),
        ("data", "check", file.name, "--model", "model"),
        ("train", file.name, "--model", "model", "--out", "run", *small),
    )
    command = chance.choice(commands)
    with_reason(
        f"{size / 1e6:.0f} MB, {command[0]}",
        lambda: place.run(*command).check(codes=(1,) if command[0] == "data" else ()),
    )
    materials.clear(place)
