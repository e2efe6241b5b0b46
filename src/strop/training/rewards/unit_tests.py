"""A reward by tests of the code in an answer, run in a process of its own within limits."""

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex

from strop.core.errors import UnsupportedError
from strop.core.files import scratch_folder
from strop.training.rewards import bounded_program
from strop.training.rewards.guarded import RewardFunction

logger = logging.getLogger("strop")

_ENDING = 1.0
"""Seconds in which killed children are gone."""
_CODE = regex.compile(r"(?s)```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the code of one answer may take."""

    seconds: float = 5.0
    memory: int = 1_000_000_000
    file_bytes: int = 8_000_000
    """Of one file, and of all together."""
    output_bytes: int = 1_000_000
    """Of its output; more ends it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program."""

    passed: int
    """Tests that it passed."""
    fault: str = ""
    """Which limit ended it, if one did."""


def by_unit_tests(column: str) -> RewardFunction:
    """Return the reward of code: the share of tests that it passes.

    The code is the first block in ``` of an answer, else the whole answer; the tests are the row's, a
    text or a list of texts of Python, each passed if it raises nothing. They run one after the other in
    one process, which is ended at the first that does not return.

    Args:
        column: of the data that has the tests; None of a row: the reward does not apply.

    Raises:
        UnsupportedError: this is Windows, which has no limits for processes.
    """
    if sys.platform == "win32":
        raise UnsupportedError(
            "--reward unit_tests runs code within limits of time, memory and files, which Windows "
            "does not have; train under Linux (WSL), or write the reward as a function of your own"
        )
    named: set[str] = set()

    def reward(completions: Any, **columns: Any) -> list[float | None]:
        tests = [_tests(of_row) for of_row in columns.get(column, [None] * len(completions))]
        answers = [completion[0]["content"] for completion in completions]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            outcomes = [*pool.map(lambda a, t: run(code_of(a), t) if t else None, answers, tests)]
        for fault in {o.fault for o in outcomes if o is not None and o.fault} - named:
            named.add(fault)
            logger.warning("--reward unit_tests=%s: an answer's code was ended: %s", column, fault)
        pairs = zip(outcomes, tests, strict=True)
        return [None if outcome is None else outcome.passed / len(t) for outcome, t in pairs]

    return reward


def code_of(answer: str) -> str:
    """Return the code of an answer."""
    block = _CODE.search(answer)
    return str(block[1]) if block else answer


def _tests(of_row: Any) -> list[str]:
    if of_row is None:
        return []
    return [str(test) for test in of_row] if isinstance(of_row, list | tuple) else [str(of_row)]


def run(code: str, tests: Sequence[str], limits: Limits = Limits()) -> Outcome:
    """Return how many tests a program passes, in a process that is ended as a whole with its children.

    Args:
        code: Python, to be tested.
        tests: Python, each in the names that the code leaves.
        limits: of the process.
    """
    with scratch_folder("code") as folder:
        program = folder / "program"
        program.mkdir()
        files = [folder / f"{number}.py" for number in range(len(tests) + 1)]
        for file, text in zip(files, (code, *tests), strict=True):
            file.write_text(text, encoding="utf-8")
        mark = f"{secrets.token_hex(16)}\n"
        command = [sys.executable, "-I", "-S", "-B", str(Path(bounded_program.__file__))]
        command += [str(max(1, round(limits.seconds) + 1)), str(limits.memory)]
        command += [str(limits.file_bytes), *map(str, files)]
        with (
            (folder / "output").open("wb+") as output,
            (folder / "errors").open("wb+") as errors,
        ):
            process = subprocess.Popen(
                command,
                cwd=program,
                env={"PATH": os.defpath, "HOME": str(program), "TMPDIR": str(program)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(mark.encode())
            try:
                fault = _watched(process, program, output.fileno(), limits)
            finally:
                _end(process)
            output.seek(0)
            passed = output.read(limits.output_bytes).decode(errors="replace").count(mark)
            size = os.fstat(errors.fileno()).st_size
            errors.seek(max(0, size - 2000))
            errors_text = errors.read().decode(errors="replace")
    fault = fault or _fault(process.returncode, errors_text)
    return Outcome(
        0 if process.returncode == bounded_program.REFUSED else min(passed, len(tests)), fault
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process with all its children, and wait until none of them is left.

    The dead ones stay in containers whose first process does not collect them; they are not waited for.
    """
    if sys.platform == "win32":
        process.kill()
        process.wait()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        end = time.monotonic() + _ENDING
        while time.monotonic() < end:  # a child is gone a moment after its parent
            os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.001)
    process.wait()


def _watched(process: "subprocess.Popen[bytes]", folder: Path, output: int, limits: Limits) -> str:
    """Wait for a process, and return which limit ended it; empty where none did."""
    end = time.monotonic() + limits.seconds
    pause = 0.005
    while process.poll() is None:
        if time.monotonic() > end:
            return f"it took longer than {limits.seconds:g} seconds"
        if os.fstat(output).st_size > limits.output_bytes:
            return f"it wrote more than {limits.output_bytes:,} bytes of output"
        if _size(folder) > limits.file_bytes:
            return f"its files took more than {limits.file_bytes:,} bytes"
        time.sleep(pause)
        pause = min(0.1, 1.5 * pause)
    return ""


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total


def _fault(code: int, errors_text: str) -> str:
    if code == bounded_program.REFUSED:
        return f"{errors_text.rstrip().rpartition('refused: ')[2]} is refused"
    if "MemoryError" in errors_text:
        return "it took too much memory"
    if sys.platform == "win32":
        return ""
    if code in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ) or "File too large" in errors_text:
        return "it wrote too large a file"
    if code in (-signal.SIGXCPU, 128 + signal.SIGXCPU, -signal.SIGKILL, 128 + signal.SIGKILL):
        return "it took too much time of the processor"
    return ""
