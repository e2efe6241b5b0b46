"""No network: nothing asks for one unless a hub id was given, and then the answer is a sentence."""

import ctypes
import fcntl
import random
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.trials.materials import EXPORT, QUANTIZE, TRAIN, Materials
from benchmarks.trials.runner import TrialError

RUN = ("model", "rows.jsonl", "cache", "run")
LOCAL = {
    "train": (TRAIN, RUN[:3]),
    "quantize": (QUANTIZE, RUN[:3]),
    "check": (("data", "check", "rows.jsonl", "--model", "model"), RUN[:3]),
    "eval": (("eval", "run"), RUN),
    "chat": (("chat", "run", "--say", "east?", "--max-tokens", "4"), RUN),
    "export": (EXPORT, RUN),
    "merged": (("export", "run", "--to", "merged"), RUN),
}
HUB = {
    "train": ("train", "rows.jsonl", "--model", "some/model", "--out", "run"),
    "data": ("train", "hf:some/rows", "--model", "model", "--out", "run"),
    "check": ("data", "check", "hf:some/rows"),
    "chat": ("chat", "some/model", "--say", "x"),
    "eval": ("eval", "some/model", "rows.jsonl"),
    "quantize": ("quantize", "some/model", "--out", "small"),
    "serve": ("serve", "some/model"),
}
_SPY = """import os, pathlib
pathlib.Path(os.environ["SPY"]).touch()
def __getattr__(name):
    raise AttributeError(name)
"""


def trials() -> Iterator[tuple[str, Callable[[Materials, str, random.Random], None]]]:
    """Yield commands in a network without interfaces, and with a stand-in for `kernels`."""
    for command in LOCAL:
        yield f"local-{command}", _local
    for command in HUB:
        yield f"hub-{command}", _hub
    for command in ("train", "eval", "quantize", "check"):
        yield f"kernels-{command}", _kernels


def _alone() -> None:
    """Leave every network, and end the process where it looks for one that is not this machine."""
    if ctypes.CDLL(None).unshare(0x40000000):  # CLONE_NEWNET
        raise OSError("unshare")
    _raise_loopback()
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_OFFLINE = False


def _raise_loopback() -> None:
    """Bring up the loopback interface, by which commands speak to llama.cpp."""
    with socket.socket() as any_socket:
        flags = struct.pack("16sh", b"lo", 1)  # IFF_UP
        fcntl.ioctl(any_socket, 0x8914, flags)  # SIOCSIFFLAGS


def _alone_and_watched() -> None:
    _alone()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" and arguments[0] not in ("127.0.0.1", "localhost", None):
            print(f"ASKED FOR {arguments[0]}", flush=True)

    sys.addaudithook(watch)


def _local(materials: Materials, name: str, chance: random.Random) -> None:
    command, parts = LOCAL[name.rsplit("-", 1)[1]]
    place = materials.place(name, parts)
    environment = {"HF_HUB_OFFLINE": None}
    ended = place.run(*command, environment=environment, prepare=_alone_and_watched).check()
    if "ASKED FOR" in ended.output:
        raise TrialError("broken promise", ended.output.split("ASKED FOR ")[1].splitlines()[0])
    if ended.code:
        raise TrialError("broken promise", ended.sentence)
    materials.clear(place)


def _hub(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name)
    command = HUB[name.rsplit("-", 1)[1]]
    ended = place.run(*command, environment={"HF_HUB_OFFLINE": None}, prepare=_alone).check()
    if ended.code == 0 or "some/" not in ended.sentence:
        raise TrialError("no sentence", f"the name is not in: {ended.sentence[:200]}")
    if ended.seconds > 15:
        raise TrialError("broken promise", f"refused after {ended.seconds:.0f} s")
    materials.clear(place)


def _kernels(materials: Materials, name: str, chance: random.Random) -> None:
    """With a package `kernels` installed, nothing imports it."""
    command, parts = LOCAL[name.rsplit("-", 1)[1]]
    place = materials.place(name, parts)
    package = place.folder / "packages" / "kernels"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_SPY)
    seen = place.folder / "imported"
    environment = {"PYTHONPATH": str(package.parent), "SPY": str(seen), "HF_HUB_OFFLINE": None}
    place.run(*command, environment=environment, prepare=_alone_fresh, fresh=True).check()
    if seen.exists():
        raise TrialError("broken promise", "the package kernels was imported")
    materials.clear(place)


def _alone_fresh() -> None:
    if ctypes.CDLL(None).unshare(0x40000000):  # CLONE_NEWNET
        raise OSError("unshare")
    _raise_loopback()
