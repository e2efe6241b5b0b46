"""Want of room, of rights and of a home: one sentence, and with room again the same bytes.

File systems of a few megabytes and other users need root; without it these trials are refused.
"""

import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.trials.materials import EXPORT, QUANTIZE, TRAIN, Materials, Place, equal, trained
from benchmarks.trials.runner import TrialError

Attempt = Callable[[Materials, str, random.Random], None]
WARM = ("model", "rows.jsonl", "cache")
COMMANDS = {
    "train": (TRAIN, WARM),
    "eval": (("eval", "run"), (*WARM, "run")),
    "export": ((*EXPORT[:3], "merged", "--no-certify"), (*WARM, "run")),
    "quantize": (QUANTIZE, WARM),
    "check": (("data", "check", "rows.jsonl", "--fix", "fixed.jsonl"), WARM),
}
NOBODY = 54321  # a user without a name


def trials() -> Iterator[tuple[str, Attempt]]:
    """Yield each way of want for each command."""
    for number in range(24):
        yield f"full-{number}", _full
    for number in range(16):
        yield f"quota-{number}", _quota
    for command in COMMANDS:
        for what in ("folder", "cache", "run", "all"):
            yield f"read-only-{what}-{command}", _read_only
        for home in ("unset", "missing", "file"):
            yield f"home-{home}-{command}", _home
        yield f"nobody-{command}", _nobody
    for file in (
        "rows.jsonl",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
    ):
        yield f"unreadable-{file}", _unreadable


def _mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True)


def _full(materials: Materials, name: str, chance: random.Random) -> None:
    """Run on a file system of a few hundred kilobytes more than what lies there."""
    command, parts = COMMANDS[chance.choice(("train", "train", "train", "export", "quantize"))]
    outer = materials.place(name, parts)
    used = sum(f.stat().st_blocks * 512 for f in outer.folder.rglob("*"))
    size = used + chance.randrange(0, 1_500_000)
    small = outer.folder.with_name(outer.folder.name + "-small")
    small.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(small))
    try:
        shutil.copytree(outer.folder, small, dirs_exist_ok=True)
        place = Place(small)
        ended = place.run(*command).check()
        if command is TRAIN:
            if ended.code:
                _mount("-o", "remount,size=100m", str(small))
                place.finish_training()
            equal(trained(small / "run"), materials.trained, "the training")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
    materials.clear(outer)


def _quota(materials: Materials, name: str, chance: random.Random) -> None:
    """No file may grow beyond a limit, as a quota ends it."""
    which = chance.choice(list(COMMANDS))
    command, parts = COMMANDS[which]
    place = materials.place(name, parts)
    size = chance.choice((0, 512, 4096, 20_000, 60_000, 200_000))

    def prepare() -> None:
        # The output of the command is a file, too; it stays below the smallest limit but 0.
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, 4096), max(size, 4096)))

    ended = place.run(*command, prepare=prepare).check()
    if which == "train" and ended.code == 0:
        equal(trained(place.folder / "run"), materials.trained, "the training")
    materials.clear(place)


def _read_only(materials: Materials, name: str, chance: random.Random) -> None:
    _, what, which = name.rsplit("/", 1)[1].replace("read-only", "readonly").split("-")
    command, parts = COMMANDS[which]
    place = materials.place(name, parts)
    target = {"folder": "", "all": "", "cache": "cache", "run": "run"}[what]
    folder = place.folder / target
    folder.mkdir(exist_ok=True)

    def prepare() -> None:
        _own_mounts()
        _mount("--bind", str(folder), str(folder))
        _mount("-o", "remount,bind,ro", str(folder))
        if what == "folder":  # all but the cache
            _mount("-t", "tmpfs", "none", str(place.folder / "cache"))

    place.run(*command, prepare=prepare).check()
    materials.clear(place)


def _own_mounts() -> None:
    """Let mounts of this process be its own."""
    import ctypes

    if ctypes.CDLL(None).unshare(0x00020000):  # CLONE_NEWNS
        raise OSError("unshare")
    _mount("--make-rprivate", "/")


def _home(materials: Materials, name: str, chance: random.Random) -> None:
    _, home, which = name.rsplit("/", 1)[1].split("-")
    command, parts = COMMANDS[which]
    place = materials.place(name, parts)
    homes = {"unset": None, "missing": "none", "file": "rows.jsonl"}
    path = homes[home] and str(place.folder / homes[home])
    environment = {"HOME": path, "STROP_CACHE": None, "HF_HOME": None, "TMPDIR": None}
    ended = place.run(*command, environment=environment, prepare=_become(NOBODY, place)).check()
    if which == "train" and ended.code == 0:
        equal(trained(place.folder / "run"), materials.trained, "the training")
    materials.clear(place)


def _nobody(materials: Materials, name: str, chance: random.Random) -> None:
    """A user without a name, who may write this folder alone, ends every command well."""
    command, parts = COMMANDS[name.rsplit("-", 1)[1]]
    place = materials.place(name, parts)
    ended = place.run(*command, prepare=_become(NOBODY, place)).check()
    if ended.code:
        raise TrialError("broken promise", ended.sentence)
    materials.clear(place)


def _become(user: int, place: Place) -> Callable[[], Any]:
    for path in (place.folder, *place.folder.rglob("*")):
        os.chown(path, user, user)
    for path in (place.folder.parent, *place.folder.parent.parents):
        if path != Path(path.anchor) and not path.stat().st_mode & 1:
            path.chmod(path.stat().st_mode | 1)

    def become() -> None:
        _own_mounts()
        _open_interpreter(place)
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    return become


def _open_interpreter(place: Place) -> None:
    """Let the user read Python itself where it lies in a home of another one."""
    prefix = Path(sys.base_prefix)
    closed = next((p for p in reversed(prefix.parents) if not p.stat().st_mode & 1), None)
    if closed is None:
        return
    spare = place.folder / "interpreter"
    spare.mkdir()
    _mount("--bind", str(prefix), str(spare))
    _mount("-t", "tmpfs", "-o", "mode=755", "none", str(closed))
    prefix.mkdir(parents=True)
    _mount("--move", str(spare), str(prefix))


def _unreadable(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name)
    file = place.folder / name.split("unreadable-")[1]
    become = _become(NOBODY, place)
    os.chown(file, 0, 0)
    file.chmod(0o600)
    ended = place.run(*TRAIN, prepare=become).check()
    if ended.code == 0 or file.name not in ended.sentence:
        raise TrialError("no sentence", f"{file.name} is not named: {ended.sentence[:200]}")
    materials.clear(place)
