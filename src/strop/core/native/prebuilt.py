"""Flags that C++ is compiled with, and compiled code that a wheel brings where there is no compiler.

Imports nothing but the standard library: the build of a wheel runs it without strop's packages.
"""

import functools
import hashlib
import platform
import subprocess
from pathlib import Path

HEADERS = Path(__file__).parent
"""The folder of what every C++ file may include: vector arithmetic, small products."""
FLAGS = ["-c", "-x", "c++", "-std=c++17", "-O3", "-fPIC", "-fopenmp"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
LINK = ["-shared"]
"""Without -fopenmp: its symbols are those of the OpenMP runtime that PyTorch has loaded, so there
is one pool of threads. Without -ffast-math: that would switch off denormals in the whole process.
"""
WIDE = ["-mprefer-vector-width=512"]
SECONDS = 300
FOLDER = HEADERS / "compiled"
"""Where a wheel has compiled code: a folder for each of `LEVELS`."""
WITHOUT = HEADERS / "without.json"
"""How many times as long work takes without compiled code, as benchmarks/native.py measured it."""
_V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}
_V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
LEVELS = {
    "x86-64-v4-bf16": (
        ["-march=x86-64-v4", "-mavx512bf16", "-mavx512vnni", *WIDE],
        _V3 | _V4 | {"avx512_bf16", "avx512_vnni"},
    ),
    "x86-64-v4": (["-march=x86-64-v4", *WIDE], _V3 | _V4),
    "x86-64-v3": (["-march=x86-64-v3"], _V3),
}
"""Kinds of processors, the most able first: flags of the compiler, and what /proc/cpuinfo must list."""


def compile_library(compiler: str, source: Path, flags: list[str], library: Path) -> None:
    """Compile a C++ file to a shared library.

    Args:
        compiler: its command.
        source: the C++ file.
        flags: beside `FLAGS`, those of the processor.
        library: file to write.

    Raises:
        subprocess.SubprocessError: the compiler failed, or took longer than five minutes.
        OSError: there is no compiler.
    """
    half_done = library.with_suffix(".o")
    run([compiler, *FLAGS, *flags, "-I", str(HEADERS), "-o", str(half_done), str(source)])
    run([compiler, *LINK, "-o", str(library), str(half_done)])
    half_done.unlink()


def run(command: list[str]) -> str:
    """Return what a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    return done.stdout


def digest(source: Path) -> str:
    """Return the hash of a C++ file and of the headers it may include."""
    joint = hashlib.sha256()
    for file in (source, *sorted(HEADERS.glob("*.h"))):
        joint.update(file.read_bytes())
    return joint.hexdigest()[:32]


@functools.cache
def level() -> str | None:
    """Return the most able of `LEVELS` that this processor is, or None."""
    table = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not table.exists():
        return None
    lines = table.read_text(encoding="utf-8").splitlines()
    units = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return next((name for name, (_, needed) in LEVELS.items() if needed <= units), None)


def library_of(source: Path) -> Path | None:
    """Return the library of a C++ file that the wheel has for this processor, or None.

    There is none where the file or a header has changed since.
    """
    kind = level()
    if kind is None:
        return None
    library = FOLDER / kind / f"{digest(source)}.so"
    return library if library.is_file() else None
