"""Signals at random moments, then the same command again, or --resume: the same bytes at the end."""

import json
import random
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.trials.materials import (
    EXPORT,
    QUANTIZE,
    TRAIN,
    Materials,
    Place,
    equal,
    evaluated,
    exported,
    trained,
)
from benchmarks.trials.runner import ENDINGS, Started, TrialError

COLD = ("model", "rows.jsonl")
WARM = (*COLD, "cache")
RUN = (*WARM, "run")


def trials() -> Iterator[tuple[str, Callable[[Materials, str, random.Random], None]]]:
    """Yield 200 kills, the commands in turn."""
    for number in range(110):
        yield f"train-{number}", _train
    for number in range(10):
        yield f"train-cold-{number}", _train_cold
    for number in range(6):
        yield f"train-fresh-{number}", _train_fresh
    for number in range(24):
        yield f"quantize-{number}", _quantize
    for number in range(20):
        yield f"export-{number}", _export
    for number in range(20):
        yield f"eval-{number}", _evaluate
    for number in range(10):
        yield f"serve-{number}", _serve


def _killed(process: Started, chance: random.Random, within: float) -> None:
    """Send a signal at a random moment, counted in processor time, as other work delays a process.

    A server that waits uses none; it is killed when the clock has gone on five times as long.
    """
    number = chance.choice(ENDINGS)
    share, begin = chance.random(), time.monotonic()
    while process.running() and time.monotonic() - begin < 5 * share * within + 20 * (within > 2):
        if process.processor_seconds() >= share * within:
            break
        time.sleep(0.001)
    process.send(number)
    process.wait().check(signals=(number,), codes=(1, 130, 128 + number))


def _train(materials: Materials, name: str, chance: random.Random) -> None:
    _train_in(materials.place(name, WARM), materials, chance, 1.7)


def _train_cold(materials: Materials, name: str, chance: random.Random) -> None:
    """Kill a first training, which also compiles, times and quantises."""
    _train_in(materials.place(name, COLD), materials, chance, 7.0)


def _train_fresh(materials: Materials, name: str, chance: random.Random) -> None:
    """Kill a training that was started by its command."""
    _train_in(materials.place(name, WARM), materials, chance, 8.5, fresh=True)


def _train_in(
    place: Place, materials: Materials, chance: random.Random, within: float, **how: Any
) -> None:
    for _ in range(chance.choice((1, 1, 1, 2, 3))):  # some are killed again when they go on
        _killed(place.start(*_next_training(place), **how), chance, within)
    place.finish_training(**how)
    equal(trained(place.folder / "run"), materials.trained, "the training")
    if not (place.folder / "run" / "report.html").exists():
        place.run("train", "--resume", "run", **how)  # it was killed before its report
    if not (place.folder / "run" / "report.html").exists():
        raise TrialError("broken promise", "a finished run without its report")
    _no_leftovers(place)
    materials.clear(place)


def _next_training(place: Place) -> tuple[str, ...]:
    """Return the command that goes on: --resume where a checkpoint is, else the same one."""
    checkpoints = place.folder / "run" / "checkpoints"
    whole = checkpoints.is_dir() and list(checkpoints.glob("checkpoint-*/whole.json"))
    return ("train", "--resume", "run") if whole else TRAIN


def _no_leftovers(place: Place) -> None:
    """Check that nothing of the killed process lies in the run after it went on."""
    hidden = [p for p in (place.folder / "run").rglob(".*") if p.is_dir()]
    if hidden:
        raise TrialError("broken promise", f"left behind: {[p.name for p in hidden][:3]}")


def _quantize(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name, WARM)
    _killed(place.start(*QUANTIZE), chance, 0.9)
    if not (place.folder / "small").exists():
        place.run(*QUANTIZE).check()
    equal(exported(place.folder / "small"), materials.quantized, "the quantised model")
    materials.clear(place)


def _export(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name, RUN)
    out = place.folder / "run" / "export"
    shutil.rmtree(out)
    _killed(place.start(*EXPORT), chance, 6.5)
    place.run(*EXPORT).check()
    equal(exported(out), materials.exported, "the export")
    certificate = json.loads(next(out.rglob("certificate.json")).read_text())
    if not certificate["passed"]:
        raise TrialError("broken promise", "the certificate did not pass")
    materials.clear(place)


def _evaluate(materials: Materials, name: str, chance: random.Random) -> None:
    place = materials.place(name, RUN)
    (place.folder / "run" / "evaluation.json").unlink()
    _killed(place.start("eval", "run"), chance, 0.4)
    if not (place.folder / "run" / "evaluation.json").exists():
        place.run("eval", "run").check()
    equal(evaluated(place.folder / "run"), materials.evaluated, "the evaluation")
    materials.clear(place)


def _serve(materials: Materials, name: str, chance: random.Random) -> None:
    """Kill a server while it starts or answers, then ask another one the same."""
    place = materials.place(name, RUN)
    before = exported(place.folder / "run")
    port = free_port()
    command = ("serve", "run", "--port", str(port), "--context", "128")
    process = place.start(*command)
    if chance.random() < 0.5:
        _answer(process, port)
    _killed(process, chance, 1.0)
    answers = []
    for _ in range(2):
        process = place.start(*command)
        answers.append(_answer(process, port))
        process.send(signal.SIGTERM)
        ended = process.wait().check(signals=(signal.SIGTERM,))
        if ended.code:
            raise TrialError("broken promise", f"SIGTERM ended the server with {ended.code}")
    equal(answers[0], answers[1], "the answer")
    equal(exported(place.folder / "run"), before, "files of the run")
    materials.clear(place)


def await_health(process: Started, port: int) -> None:
    """Wait until a server is up.

    Raises:
        TrialError: it ended before, or takes more than a minute.
    """
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except OSError:
            if not process.running() or time.monotonic() > until:
                process.wait(0.1).check()
                raise TrialError("broken promise", "the server did not come up") from None
            time.sleep(0.05)


def _answer(process: Started, port: int) -> str:
    """Return a server's answer to a question, once it is up."""
    await_health(process, port)
    url = f"http://127.0.0.1:{port}"
    question = {"messages": [{"role": "user", "content": "east?"}], "max_tokens": 8}
    body = json.dumps({**question, "temperature": 0}).encode()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.loads(answer.read())["choices"][0]["message"]["content"])


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
