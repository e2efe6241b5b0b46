"""What trials start from: a tiny model, rows, a warm cache, a finished and a killed run, exports."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.trials.runner import MEMORY, SECONDS, Ended, Started, TrialError
from strop.core.files import write_sealed

STEPS = 12
TRAIN = (
    *("train", "rows.jsonl", "--model", "model", "--out", "run", "--max-steps", str(STEPS)),
    *("--batch-size", "4", "--held-out", "4", "--save-every", "2", "--learning-rate", "0.01"),
)
EXPORT = ("export", "run", "--to", "gguf", "--quant", "q8_0")
MERGE = ("export", "run", "--to", "merged", "--no-certify")
QUESTION = ("chat", "run", "--say", "The last word of rain hill?", "--max-tokens", "6")
QUANTIZE = ("quantize", "model", "--out", "small")
_CHANGING = ("seconds", "memory", "disk")
"""Fields of a run's log that no two runs share."""


def import_everything() -> None:
    """Import what commands import when they run, so that a fork need not."""
    from strop.core.quiet import quiet

    with quiet():
        import datasets  # noqa: F401
        import peft  # noqa: F401
        import trl  # noqa: F401

        import tests.tiny.saved  # noqa: F401


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of one trial, with a cache and a home of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str | None]:
        """Variables of every command here: no hub, one thread, this cache."""
        return {
            "STROP_CACHE": str(self.folder / "cache"),
            "HOME": str(self.folder),
            "HF_HOME": str(self.folder / "hub"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.folder),
        }

    def start(self, *command: str, **how: Any) -> Started:
        """Start a command of strop."""
        environment = self.environment | how.pop("environment", {})
        return Started(list(command), self.folder, environment=environment, **how)

    def run(
        self, *command: str, seconds: float = SECONDS, memory: int = MEMORY, **how: Any
    ) -> Ended:
        """Run a command of strop to its end."""
        return self.start(*command, **how).wait(seconds, memory)

    def finish_training(self, **how: Any) -> None:
        """Go on with a training that was disturbed: the same command, or --resume if it says so.

        Raises:
            TrialError: it does not finish.
        """
        if self.finished:
            return
        ended = self.run(*TRAIN, **how).check()
        if ended.code and "resume" in ended.sentence:
            ended = self.run("train", "--resume", "run", **how).check()
        if not self.finished:
            raise TrialError("broken promise", f"the run did not finish: {ended.sentence[:300]}")

    @property
    def finished(self) -> bool:
        """Whether the run says that it is finished."""
        try:
            record = json.loads((self.folder / "run" / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        return bool(record["status"] == "finished")

    def call(self, work: Callable[[], Any], **how: Any) -> Ended:
        """Call a function in a process of its own."""
        environment = self.environment | how.pop("environment", {})
        return Started(work, self.folder, environment=environment, **how).wait()


def trained(folder: Path) -> dict[str, Any]:
    """Return what a training leaves that another one of the same must leave, too."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    log = [{k: v for k, v in json.loads(x).items() if k not in _CHANGING} for x in lines]
    files = (folder / "adapter" / "adapter_model.safetensors",)
    files += (folder / "activation_stats.safetensors",)
    return {"log": log} | {file.name: digest(file) for file in files}


def exported(folder: Path) -> dict[str, str]:
    """Return the digests of the weights in a folder."""
    files = [*folder.rglob("*.gguf"), *folder.rglob("*.safetensors")]
    return {str(file.relative_to(folder)): digest(file) for file in sorted(files)}


def evaluated(folder: Path) -> Any:
    """Return what an evaluation measured, without the place of its data, the time, and the seal."""
    value = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return _lasting(value)


def _lasting(value: Any) -> Any:
    """Return a JSON value without what no two evaluations share."""
    if isinstance(value, list):
        return [_lasting(item) for item in value]
    if not isinstance(value, dict):
        return value
    changing = ("data", "sha256", "seconds")
    return {name: _lasting(item) for name, item in value.items() if name not in changing}


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Materials:
    """What trials copy, made once.

    Args:
        root: an empty folder, or one in which they were made before.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "materials"
        self._scratch = root / "trials"
        self._scratch.mkdir(parents=True, exist_ok=True)
        if not (self.root / "stopped").exists():
            shutil.rmtree(self.root, ignore_errors=True)
            self.root.mkdir()
            self._make(Place(self.root))
        self.trained = trained(self.root / "run")
        self.evaluated = evaluated(self.root / "run")
        self.exported = exported(self.root / "run" / "export")
        self.quantized = exported(self.root / "small")
        self.merged = exported(self.root / "merged")
        self.answer = (self.root / "answer.txt").read_text(encoding="utf-8")

    def _make(self, place: Place) -> None:
        place.call(self._save).check()
        wide = (*TRAIN[:5], "wide", *TRAIN[6:], "--bits", "32")  # compiles what 32 bits need
        for command in (wide, TRAIN, ("eval", "run"), MERGE, EXPORT, QUANTIZE, QUESTION):
            ended = place.run(*command, seconds=300).check()
            if ended.code:
                raise RuntimeError(f"{' '.join(command)}: {ended.output}")
            if command is MERGE:
                shutil.move(self.root / "run" / "export" / "merged", self.root / "merged")
        (self.root / "answer.txt").write_text(ended.output, encoding="utf-8")
        self._kill_a_run(place)

    def _save(self) -> None:
        from tests.tiny import saved

        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # noqa: TID251
        saved.save_model("llama", self.root / "model")
        rows = saved.chats(40)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.root / "rows.jsonl").write_text(text, encoding="utf-8")

    def _kill_a_run(self, place: Place) -> None:
        """Leave a run that was killed between two checkpoints."""
        done = self.root / "done"
        (self.root / "run").rename(done)
        process = place.start(*TRAIN)
        while process.running():
            if (self.root / "run" / "checkpoints" / "checkpoint-6" / "whole.json").exists():
                process.send(signal.SIGKILL)
            time.sleep(0.001)
        (self.root / "run").rename(self.root / "stopped")
        done.rename(self.root / "run")
        if not list((self.root / "stopped" / "checkpoints").iterdir()):
            raise RuntimeError("the run ended before it was killed")

    def place(self, name: str, parts: Iterable[str] = ("model", "rows.jsonl", "cache")) -> Place:
        """Return a folder for a trial, with copies of some parts; `stopped` becomes `run`."""
        folder = self._scratch / name.replace("/", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for part in parts:
            source, target = self.root / part, folder / ("run" if part == "stopped" else part)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)
        if (record := folder / "run" / "run.json").exists():
            text = record.read_text(encoding="utf-8").replace(str(self.root), str(folder))
            value = json.loads(text)
            value.pop("sha256", None)
            write_sealed(record, value)
        return Place(folder)

    def clear(self, place: Place) -> None:
        """Delete the folder of a trial."""
        around = place.folder.parent
        others = [
            *around.glob(place.folder.name + ".*"),
            *around.glob(place.folder.name + "-small*"),
        ]
        for path in (place.folder, *others):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def equal(actual: Any, expected: Any, what: str) -> None:
    """Compare what a disturbed command left with what an undisturbed one did.

    Raises:
        TrialError: they differ.
    """
    if actual == expected:
        return
    if isinstance(actual, dict) and isinstance(expected, dict):
        names = [n for n in {**actual, **expected} if actual.get(n) != expected.get(n)]
        raise TrialError("other bytes", f"{what}: {', '.join(map(str, names))}")
    raise TrialError("other bytes", what)
