"""Run by `strop.training.rewards.unit_tests` in a process of its own: a program within limits.

python -I bounded_program.py SECONDS MEMORY FILE_BYTES PROGRAM TEST...    with a mark on its input

Limits are set before the program runs, and cannot be raised by it: time of the processor, memory, size
of a file, no further process. Where the system allows it, the program runs in a network, and among
processes, of its own, which end with it. What Python announces (opening a socket, starting a process,
writing outside the folder, loading a library) is refused with `REFUSED`. It is a fence against accidents
and cheap tricks, not a wall against an attacker: untrusted models belong into a container.

Standard library only: nothing of strop is in reach of the program.
"""

import ctypes
import os
import runpy
import signal
import sys

REFUSED = 77
"""Exit code of a program that tried what it may not; standard error says what."""
_NEW_USER, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_STARTS = (
    "os.fork",
    "os.forkpty",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
)
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


def main() -> None:
    """Run a program, then its tests in the names that it leaves; write the mark for each that passes."""
    if sys.platform == "win32":  # which has no such limits
        _refuse("running without limits")
        return
    import resource

    program, *tests = sys.argv[4:]
    seconds, memory, size = map(int, sys.argv[1:4])
    mark = sys.stdin.readline()
    _alone()
    for what, limit in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(what, (limit, limit))
    here = os.path.realpath(os.getcwd())
    os.kill = os.killpg = _no_signals
    sys.argv = ["answer.py"]
    write = sys.stdout.write
    sys.addaudithook(lambda event, args: _audit(event, args, here))
    names = runpy.run_path(program, run_name="answer")
    for test in tests:
        try:
            runpy.run_path(test, dict(names), run_name="test")
        except Exception:  # noqa: BLE001 - a test may raise anything
            continue
        write(mark)
        sys.stdout.flush()


def _alone() -> None:
    """Enter a network and a set of processes of its own, where the system allows it.

    The process that waits outside passes the exit code on; the kernel ends all that are inside with
    their first.
    """
    if not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None).unshare(_NEW_USER | _NEW_PROCESSES | _NEW_NETWORK):
        return
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _no_signals(*_: object) -> None:
    _refuse("sending a signal to a process")


def _audit(event: str, args: tuple[object, ...], here: str) -> None:
    """Refuse what Python announces and the program may not."""
    if event.startswith("socket.") or event.startswith("urllib.") or event == "http.client.connect":
        _refuse("opening a socket")
    elif event in _STARTS or event.startswith("subprocess."):
        _refuse("starting a process")
    elif event.startswith("ctypes."):
        _refuse("loading a library")
    elif (event == "open" and isinstance(args[2], int) and args[2] & _WRITES) or event in _CHANGES:
        _check_inside(args[0], here)


def _check_inside(path: object, here: str) -> None:
    if isinstance(path, int):
        return
    whole = os.path.realpath(os.fsdecode(path))  # type: ignore[arg-type]
    if whole != here and not whole.startswith(here + os.sep) and whole != os.devnull:
        _refuse("writing outside its folder")


def _refuse(what: str) -> None:
    os.write(2, f"\nrefused: {what}\n".encode())
    os._exit(REFUSED)


if __name__ == "__main__":
    main()
