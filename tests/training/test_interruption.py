"""A run that is stopped or killed goes on and ends as if nothing had happened."""

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strop.runs import checkpoints
from strop.training import Run
from tests.tiny.saved import save_chats

pytestmark = pytest.mark.slow

STEPS = 40
OPTIONS = {
    "epochs": 2.5,
    "batch_size": 4,
    "held_out": 4,
    "save_every": 6,
    "eval_every": 7,
    "learning_rate": 1e-2,
    "schedule": "cosine",
    "dropout": 0.1,  # draws random numbers in every step
    "eval_metrics": "chrf,length,perplexity",  # answers are generated, and the right one is scored
    "quiet": True,
}


OWN_TERMINAL = (
    "import fcntl, signal, termios, strop; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
)
"""Makes the terminal on standard input that of the session, as a shell's is, and takes its SIGHUP, which
a test suite that runs under nohup would pass on as ignored."""


@contextlib.contextmanager
def on_terminal(call: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """Yield a Python process on a terminal, which is closed after the block.

    Where it is the session's own the kernel sends SIGHUP; writing there is an error from then on.
    """
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", call],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # noqa: TID251
    )  # fmt: skip
    os.close(slave)
    try:
        yield process, master
    finally:
        os.close(master)


def read_until_step(run: Path, step: int, master: int) -> None:
    deadline = time.monotonic() + 180
    while not any(line["step"] >= step for line in Run(run).log):
        assert time.monotonic() < deadline
        select.select([master], [], [], 0.01)[0] and os.read(master, 4096)


class Child:
    """A Python process that trains."""

    def __init__(self, call: str, words: Path) -> None:
        self.words = words
        words.parent.mkdir(parents=True, exist_ok=True)
        with words.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", f"import strop\n{call}"],
                stderr=stderr,
                env=os.environ | {"OMP_NUM_THREADS": "1"},  # noqa: TID251
            )

    @property
    def stderr(self) -> str:
        return self.words.read_text()

    def ended(self) -> int:
        return self.process.wait(timeout=300)

    def send(self, *signals: signal.Signals) -> None:
        for number in signals:
            self.process.send_signal(number)

    def at_step(self, run: Path, step: int) -> None:
        deadline = time.monotonic() + 180
        while not any(line["step"] >= step for line in Run(run).log):
            assert self.process.poll() is None, self.stderr
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start(data: Path, model: Path, out: Path, **changes: object) -> Child:
    options = OPTIONS | {"model": str(model), "out": str(out)} | changes
    return Child(f"strop.train({str(data)!r}, **{options!r})", out.with_suffix(".words"))


def resume(run: Path) -> None:
    child = Child(f"strop.train(resume={str(run)!r}, quiet=True)", run.with_suffix(".words"))
    assert child.ended() == 0, child.stderr


def adapter(run: Path) -> bytes:
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


def losses(run: Path) -> list[dict[str, float]]:
    """Return what the log has of each step but what differs from run to run: time and memory."""
    other = ("seconds", "metrics_seconds", "memory", "disk")
    return [{k: v for k, v in line.items() if k not in other} for line in Run(run).log]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_chats(tmp_path_factory.mktemp("data") / "sums.jsonl", 68)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, data, tiny_model):
    out = tmp_path_factory.mktemp("whole") / "run"
    child = start(data, tiny_model, out)
    assert child.ended() == 0, child.stderr
    assert Run.open(out).record["steps"] == STEPS
    return out


def test_ctrl_c_saves_a_checkpoint_and_the_resumed_run_ends_with_the_same_bytes(
    tmp_path, data, tiny_model, whole_run
):
    out = tmp_path / "run"
    child = start(data, tiny_model, out)
    child.at_step(out, 9)
    child.send(signal.SIGINT)
    assert child.ended() == 0, child.stderr
    run = Run.open(out)
    stopped_after = run.log[-1]["step"]
    assert not run.finished
    assert stopped_after < STEPS
    assert checkpoints.step_of(checkpoints.newest(run.checkpoints_folder)) == stopped_after
    resume(out)
    assert run.finished
    assert adapter(out) == adapter(whole_run)
    assert losses(out) == losses(whole_run)


def test_a_killed_run_goes_on_from_its_last_whole_checkpoint(tmp_path, data, tiny_model, whole_run):
    out = tmp_path / "run"
    child = start(data, tiny_model, out)
    child.at_step(out, 16)
    child.kill()
    resume(out)
    assert adapter(out) == adapter(whole_run)
    assert losses(out) == losses(whole_run)


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    tmp_path, data, tiny_model, whole_run
):
    out = tmp_path / "run"
    child = start(data, tiny_model, out)
    child.at_step(out, 1)
    child.kill()
    resume(out)
    assert adapter(out) == adapter(whole_run)
    assert losses(out) == losses(whole_run)


def test_a_run_killed_after_its_last_checkpoint_takes_no_further_step(tmp_path, whole_run):
    out = tmp_path / "run"
    shutil.copytree(whole_run, out)
    Run(out).update(status="running")
    shutil.rmtree(out / "adapter")
    resume(out)
    assert adapter(out) == adapter(whole_run)
    assert losses(out) == losses(whole_run)


def test_a_half_written_checkpoint_is_passed_over(tmp_path, data, tiny_model, whole_run):
    out = tmp_path / "run"
    child = start(data, tiny_model, out)
    child.at_step(out, 20)
    child.kill()
    folder = out / "checkpoints"
    last = checkpoints.newest(folder)
    torso = folder / f"checkpoint-{checkpoints.step_of(last) + 1}"
    shutil.copytree(last, torso)
    (torso / checkpoints.MARK).unlink()
    cut = torso / "optimizer.pt"
    cut.write_bytes(cut.read_bytes()[:100])
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 99, "lo')
    assert checkpoints.newest(folder) == last
    resume(out)
    assert adapter(out) == adapter(whole_run)
    assert losses(out) == losses(whole_run)


def test_a_second_ctrl_c_stops_at_once(tmp_path, data, tiny_model):
    out = tmp_path / "run"
    child = start(data, tiny_model, out, epochs=500.0, save_every=100000)
    child.at_step(out, 2)
    # Held while the signals arrive, so that no step can end between them.
    child.send(signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT)
    assert child.ended() != 0
    assert "KeyboardInterrupt" in child.stderr
    assert json.loads((out / "run.json").read_text())["status"] == "running"


def test_a_closed_terminal_saves_a_checkpoint_and_the_resumed_run_ends_with_the_same_bytes(
    tmp_path, data, tiny_model, whole_run
):
    out = tmp_path / "run"
    options = OPTIONS | {"model": str(tiny_model), "out": str(out), "quiet": False}
    call = f"{OWN_TERMINAL}; strop.train({str(data)!r}, **{options!r})"
    with on_terminal(call) as (process, master):
        read_until_step(out, 9, master)
    assert process.wait(timeout=180) == 0
    run = Run.open(out)
    stopped_after = run.log[-1]["step"]
    assert run.record["status"] == "interrupted"
    assert stopped_after < STEPS
    assert checkpoints.step_of(checkpoints.newest(run.checkpoints_folder)) == stopped_after
    resume(out)
    assert adapter(out) == adapter(whole_run)


def test_where_hangups_are_ignored_a_closed_terminal_stops_nothing(tmp_path, data, tiny_model):
    out = tmp_path / "run"
    options = {**OPTIONS, "model": str(tiny_model), "out": str(out), "epochs": 1.0, "quiet": False}
    ignored = "import signal, strop; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with on_terminal(f"{ignored}; strop.train({str(data)!r}, **{options!r})") as (process, master):
        read_until_step(out, 2, master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=180) == 0
    assert Run.open(out).finished


@pytest.mark.parametrize("content", [None, "", "{}", "no log\n", '{"step": 1, "loss": 2.0'])
def test_a_log_that_was_lost_is_put_back_from_the_checkpoint(
    content, tmp_path, whole_run, data, tiny_model
):
    out = shutil.copytree(whole_run, tmp_path / "run")
    run, log = Run.open(out), out / "log.jsonl"
    shutil.rmtree(run.adapter_folder)
    shutil.rmtree(checkpoints.newest(run.checkpoints_folder))
    run.update(status="interrupted")
    log.unlink()
    if content is not None:
        log.write_text(content)
    again = start(data, tiny_model, out)  # without --resume: nothing may be lost
    assert again.ended() == 1
    assert "already holds a run" in again.stderr
    resume(out)
    assert losses(out) == losses(whole_run)
    assert adapter(out) == adapter(whole_run)


def test_a_full_disk_is_explained_and_the_last_complete_checkpoint_stays(
    tmp_path, data, tiny_model, whole_run
):
    out = tmp_path / "run"
    # Once two checkpoints exist, no file may grow beyond 20 kB: safetensors and torch then fail
    # as they do on a full disk.
    child = Child(
        "import resource, signal; from strop.runs import checkpoints\n"
        "from strop.core.errors import UnsupportedError\n"
        "seal = checkpoints.seal\n"
        "def seal_and_fill(path):\n"
        "    seal(path)\n"
        "    if checkpoints.step_of(path) == 12:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))\n"
        "checkpoints.seal = seal_and_fill\n"
        f"options = {OPTIONS | {'model': str(tiny_model), 'out': str(out)}!r}\n"
        "try:\n"
        f"    strop.train({str(data)!r}, **options)\n"
        "except UnsupportedError as e:\n"
        "    raise SystemExit(str(e))\n",
        tmp_path / "words",
    )
    assert child.ended() == 1
    assert "checkpoint-18 cannot be written" in child.stderr
    assert not (out / "checkpoints" / "checkpoint-18").exists()
    assert "make room" in child.stderr
    assert "Traceback" not in child.stderr
    assert checkpoints.step_of(checkpoints.newest(out / "checkpoints")) == 12
    resume(out)
    assert adapter(out) == adapter(whole_run)
