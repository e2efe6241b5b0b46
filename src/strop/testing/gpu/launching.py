"""Compile, for cards that are not here, the very kernels that real calls launch.

    python -m strop.core.simulated.fake_cuda strop.testing.gpu.launching CARDS OPERATION...

CARDS is a list such as sm_90,gfx942. Each operation has a module `launches` with `LAUNCHES`: its
wrappers are called on fake CUDA tensors of real sizes, so that strides, alignment, grid and constants
are those of a real launch; Triton compiles what it is asked for and the launch itself does nothing.
Prints a line of JSON for each kernel: what it needs of the card.
"""

import dataclasses
import importlib
import json
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget

from strop.core.dataless import launch_without_data
from strop.testing.gpu import binaries
from strop.testing.gpu.launch import Launch

Ended = Callable[[Any, dict[str, Any]], None]


class FakeCuda(FakeTensorMode):
    """Fake tensors, on CUDA too where there is none."""

    @property
    def avoid_device_init(self) -> bool:
        """Whether to leave the card alone."""
        return True


class NoCard:
    """As much of a Triton driver as compiling needs; a launch does nothing.

    Args:
        card: what to compile for, as sm_90 or gfx942.
        compiled: called with each compiled kernel.
    """

    def __init__(self, card: str) -> None:
        self.target = target_of(card)
        self.number = list(binaries.SHARED_MEMORY).index(card)  # Triton keeps kernels by it
        self.utils = types.SimpleNamespace(
            get_device_properties=lambda device: {
                "max_shared_mem": 1 << 30,  # the budget's check speaks of what a card has
                "multiprocessor_count": 100,
                "warpSize": self.target.warp_size,
            },
            load_binary=lambda name, kernel, shared, device: (object(), object(), 0, 0, 1024),
            unload_module=lambda module: None,
        )

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """Return what launches a kernel."""
        return lambda *arguments, **options: None

    def get_current_target(self) -> GPUTarget:
        """Return what to compile for."""
        return self.target

    def get_current_device(self) -> int:
        """Return the number of the card."""
        return self.number

    def set_current_device(self, device: int) -> None:
        """There is one."""

    def get_current_stream(self, device: int) -> int:
        """Return the number of the stream."""
        return 0

    def get_active_torch_device(self) -> torch.device:
        """Return the card as PyTorch calls it."""
        return torch.device("cuda", 0)

    def map_python_to_cpp_type(self, kind: str) -> str:
        """Nothing is written in C++."""
        return kind


def target_of(card: str) -> GPUTarget:
    """Return Triton's name of a card such as sm_90 or gfx942."""
    if card.startswith("sm_"):
        return GPUTarget("cuda", int(card.removeprefix("sm_")), 32)
    return GPUTarget("hip", card, 64)


def compiled_kernels(card: str, launches: list[Launch]) -> Iterator[dict[str, Any]]:
    """Call every launch for a card and yield what each of its kernels needs, each kernel once."""
    triton.runtime.driver.set_active(NoCard(card))
    number = list(binaries.SHARED_MEMORY).index(card)
    kernels: list[dict[str, Any]] = []

    def compiled(*, fn: Any, compile: dict[str, Any], **_: Any) -> None:
        kernel = fn.jit_function.device_caches[number][0][compile["key"]]
        *_, operation, _ = fn.module.split(".")
        name = {"kernel": f"{operation}.{fn.name.split('.')[-1]}", "card": card}
        kernels.append(name | dataclasses.asdict(binaries.needs(kernel, card)))

    triton.knobs.runtime.jit_post_compile_hook = compiled
    for launch in launches:
        start = time.perf_counter()
        with torch.autograd.set_multithreading_enabled(False), FakeCuda():
            launch.call()
        for line in kernels:
            seconds = round((time.perf_counter() - start) / len(kernels), 2)
            yield line | {"launch": launch.name, "aligned": launch.aligned, "seconds": seconds}
        kernels.clear()


def main() -> None:
    """Print what the kernels of the operations need."""
    launch_without_data()
    cards, *operations = sys.argv[1:]
    launches: list[Launch] = []
    for name in operations:
        launches += importlib.import_module(name).LAUNCHES
    for card in cards.split(","):
        for line in compiled_kernels(card, launches):
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
