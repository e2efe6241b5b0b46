"""Child processes under limits, and what is wrong with how they end."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60.0
"""Seconds that one command may take."""
MEMORY = 2 * 2**30
"""Resident bytes that one command may have, with its children."""
ENDINGS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TRACEBACK = "Traceback (most recent call last)"
_MESSAGES = ("strop: ", "╭─ Error")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, so that processes whose parent was killed end here


class TrialError(Exception):
    """A trial that did not end as it should.

    Args:
        kind: one of `KINDS`.
        why: what was seen.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"{kind}: {why}")
        self.kind, self.why = kind, why


KINDS = {
    "traceback": "an error that names no remedy, with its traceback",
    "died": "the process ended by a signal that nobody sent",
    "hang": f"not done after {SECONDS:.0f} seconds",
    "memory": f"more than {MEMORY / 1e9:.1f} GB resident",
    "no sentence": "an exit code without a message of strop's",
    "other bytes": "another result, without a word",
    "broken promise": "something else than the documents say",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code; -N where signal N ended it."""
    output: str
    """Standard output and standard error together."""
    seconds: float
    peak: int
    """Most resident bytes, those of its children included."""

    @property
    def sentence(self) -> str:
        """The message of strop's, or of the reader of the command line, or an empty text."""
        lines = self.output.replace("\r", "\n").split("\n")
        begin = next((i for i, line in enumerate(lines) if line.startswith(_MESSAGES)), None)
        return "" if begin is None else "\n".join(lines[begin:]).strip()

    def check(self, *, signals: tuple[int, ...] = (), codes: tuple[int, ...] = ()) -> "Ended":
        """Return itself.

        Args:
            signals: that the trial sent, and that may have ended it.
            codes: exit codes that need no message.

        Raises:
            TrialError: a traceback, an unexpected end, or a fault without a message.
        """
        if _TRACEBACK in self.output:
            raise TrialError("traceback", last_lines(self.output))
        if self.code < 0 and -self.code not in signals:
            raise TrialError(
                "died", f"{signal.Signals(-self.code).name}: {last_lines(self.output)}"
            )
        if self.code > 0 and self.code not in codes and not self.sentence:
            raise TrialError("no sentence", f"exit code {self.code}: {last_lines(self.output)}")
        return self


def last_lines(output: str, count: int = 3) -> str:
    """Return the end of an output, as one line."""
    return " | ".join([line.strip() for line in output.splitlines() if line.strip()][-count:])[
        -600:
    ]


class Started:
    """A command that runs in a process of its own, which leads its own group.

    Args:
        work: what the process does; a list of texts is a command line of strop.
        folder: the process starts there, and its output goes into a file beside it.
        environment: variables that differ; None removes one.
        prepare: called in the child before the work, as to set limits.
        fresh: start a new interpreter instead of a fork of this one, which has imported everything.
    """

    def __init__(
        self,
        work: Callable[[], Any] | list[str],
        folder: Path,
        *,
        environment: dict[str, str | None] | None = None,
        prepare: Callable[[], Any] | None = None,
        fresh: bool = False,
    ) -> None:
        _adopt_orphans()
        number = len(list(folder.parent.glob(f"{folder.name}.*.out")))
        self.log = folder.parent / f"{folder.name}.{number}.out"
        self._begin = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _child(work, folder, self.log, environment or {}, prepare, fresh)
        self._code: int | None = None
        self.peak = 0
        self.seconds = 0.0

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def running(self) -> bool:
        """Return whether it still runs; note how it ended otherwise."""
        if self._code is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                self.peak = max(self.peak, usage.ru_maxrss * 1024)
                self.seconds = time.monotonic() - self._begin
                self._sweep()
        return self._code is None

    def processor_seconds(self) -> float:
        """Return the processor time that it and its children have used."""
        ticks = sum(map(_ticks, _with_descendants(self.pid)))
        return ticks / os.sysconf("SC_CLK_TCK")

    def send(self, number: int) -> None:
        """Send a signal to the process, but not to its children."""
        if self.running():
            os.kill(self.pid, number)

    def wait(self, seconds: float = SECONDS, memory: int = MEMORY) -> Ended:
        """Return how it ended.

        Raises:
            TrialError: it took too long, or too much memory, and was killed.
        """
        look, nap = 0.0, 0.002
        while self.running():
            now = time.monotonic()
            if now - self._begin > seconds:
                self.kill()
                raise TrialError("hang", last_lines(self.output))
            if now > look:
                look = now + 0.2
                self.peak = max(self.peak, resident(self.pid))
                if self.peak > memory:
                    self.kill()
                    raise TrialError(
                        "memory", f"{self.peak / 1e9:.1f} GB; {last_lines(self.output)}"
                    )
            time.sleep(nap)
            nap = min(nap * 1.2, 0.05)
        if self.peak > memory:
            raise TrialError("memory", f"{self.peak / 1e9:.1f} GB; {last_lines(self.output)}")
        return Ended(self._code or 0, self.output, self.seconds, self.peak)

    def kill(self) -> None:
        """End the process and its children."""
        if self.running():
            os.killpg(self.pid, signal.SIGKILL)
            while self.running():
                time.sleep(0.005)

    def _sweep(self) -> None:
        """End children that outlived it, of which none may stay in this machine's way."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        while True:
            try:
                if os.waitpid(-self.pid, 0)[0] == 0:
                    return
            except ChildProcessError:
                return


def _adopt_orphans() -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def resident(pid: int) -> int:
    """Return the resident bytes of a process and its descendants."""
    total = 0
    for process in _with_descendants(pid):
        with contextlib.suppress(OSError, IndexError):  # it ended meanwhile
            pages = Path(f"/proc/{process}/statm").read_text().split()[1]
            total += int(pages) * resource.getpagesize()
    return total


def _with_descendants(pid: int) -> list[int]:
    processes = [pid]
    for process in processes:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                processes += map(int, (task / "children").read_text().split())
    return processes


def _ticks(pid: int) -> int:
    """Return the processor time of one process, and of children that it has waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime


def _child(
    work: Callable[[], Any] | list[str],
    folder: Path,
    log: Path,
    environment: dict[str, str | None],
    prepare: Callable[[], Any] | None,
    fresh: bool,
) -> None:
    """Become the process of a trial; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        _default_signals()
        output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)  # noqa: TID251
            else:
                os.environ[name] = value  # noqa: TID251
        if prepare is not None:
            prepare()
        if fresh:
            assert isinstance(work, list)
            strop = str(Path(sys.executable).with_name("strop"))
            os.execv(sys.executable, [sys.executable, "-P", strop, *work])
        code = _run(work)
    except BaseException:  # noqa: BLE001  # whatever a trial raises is shown as Python would
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(work: Callable[[], Any] | list[str]) -> int:
    try:
        if callable(work):
            work()
        else:
            from strop.cli import main

            sys.argv = ["strop", *work]
            main()
    except SystemExit as e:
        if isinstance(e.code, str):
            print(e.code, file=sys.stderr)
            return 1
        return e.code or 0
    except KeyboardInterrupt:  # as Python ends: by the signal itself
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.stdout.flush()
        traceback.print_exc()
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGINT)
    return 0


def _default_signals() -> None:
    """Undo what nohup and a background job of a shell change."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
