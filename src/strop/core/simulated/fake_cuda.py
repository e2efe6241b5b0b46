"""Fake tensors on a CUDA device that is not there: shapes, strides and autograd, but no data.

A PyTorch built without CUDA ends the process when such a tensor needs a gradient. `load` gives it a
device without a card behind it; it must run before torch is imported, so that whoever needs it
starts a process of its own:

    python -m strop.core.simulated.fake_cuda MODULE ARGUMENTS...
"""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

from strop.core import env
from strop.core.cache import cached_folder
from strop.core.errors import UnsupportedError

SOURCE = Path(__file__).with_name("fake_cuda.cpp")


def load() -> None:
    """Register the device; nothing where PyTorch has CUDA itself.

    Compiled once per version of PyTorch, in about ten seconds, and kept in the cache folder.

    Raises:
        UnsupportedError: torch is imported already, or the device cannot be compiled.
    """
    if "torch" in sys.modules:
        raise UnsupportedError("the fake CUDA device must be loaded before torch is imported")
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch = Path(spec.origin).parent
    if (torch / "lib" / "libtorch_cuda.so").exists():
        return
    device = _compiled(torch)
    for library in (torch / "lib" / "libc10.so", torch / "lib" / "libtorch_cpu.so", device):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _compiled(torch: Path) -> Path:
    key = SOURCE.read_bytes() + importlib.metadata.version("torch").encode() + env.CXX.encode()

    def compile_into(folder: Path) -> None:
        folder.mkdir()
        command = [env.CXX, "-std=c++20", "-O0", "-fPIC", "-shared", f"-I{torch / 'include'}"]
        command += ["-x", "c++", str(SOURCE), "-o", str(folder / "library.so")]
        command += [f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu"]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True)
        except FileNotFoundError as e:
            raise UnsupportedError(
                f"fake CUDA tensors need a C++ compiler; {env.CXX} is not installed"
            ) from e
        except subprocess.CalledProcessError as e:
            raise UnsupportedError(f"the fake CUDA device does not compile:\n{e.stderr}") from e

    name = f"fake_cuda-{hashlib.sha256(key).hexdigest()[:16]}"
    return cached_folder(name, {}, compile_into, shelf="native") / "library.so"


if __name__ == "__main__":
    load()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
