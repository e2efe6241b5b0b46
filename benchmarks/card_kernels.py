"""Time every operation that has a kernel for cards against eager PyTorch and `torch.compile`, on a card.

Run as `python benchmarks/card_kernels.py SECONDS`: a line of JSON for each operation, with the shapes
of Llama-3-8B on 4,096 tokens in bfloat16; forward, and backward where the operation has one. With
`python -m strop.core.simulated.fake_cuda card_kernels 0` (in benchmarks/) the same calls are made on a
fake card: kernels are compiled, nothing is timed.
"""

import contextlib
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from strop.core.dataless import launch_without_data
from strop.core.errors import UnsupportedError
from strop.ops.add_low_rank import add_low_rank_
from strop.ops.dequantize import dequantize
from strop.ops.dequantize.packed import Packed
from strop.ops.glu import glu
from strop.ops.linear_log_prob import linear_log_prob
from strop.ops.mixed_product import mixed_product
from strop.ops.rms_norm import rms_norm
from strop.ops.rope import rope
from strop.ops.segment_attention import segment_attention
from strop.ops.segment_attention.segments import Segments
from strop.testing.gpu.launching import FakeCuda, NoCard

N, D, F, V, H, K, C, R = 4096, 4096, 14336, 128256, 32, 8, 128, 16
"""Tokens; width, MLP, vocabulary, heads, heads of keys, their size; rank of an adapter."""
SCORED = 512
"""Tokens that carry loss."""
ROUNDS = 3
"""In each of which the candidates take turns; a round is a median of many calls."""
WARM_UP, TIMED = 10, 40
"""Milliseconds of calls before and within a round."""
Run = Callable[[str], Any]
"""Calls the operation by the name of an implementation."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One call, and which of its tensors gets a gradient."""

    run: Run
    leaf: Tensor | None = None
    impl: str = "triton"

    def call(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """Return forward, with backward where there is one."""
        leaf = self.leaf
        if leaf is None:
            return run
        upstream = torch.randn_like(_first(run()))
        return lambda: torch.autograd.grad(_first(run()), leaf, upstream)


def normal(*shape: int, dtype: torch.dtype = torch.bfloat16, trained: bool = False) -> Tensor:
    """Return random numbers on the card."""
    return torch.randn(*shape, device="cuda").to(dtype).requires_grad_(trained)


def norm() -> Kernel:
    """The norm of a block's input."""
    x, weight = normal(N, D, trained=True), normal(D)
    return Kernel(lambda impl: rms_norm(x, weight, impl=impl), x)


def rotary() -> Kernel:
    """Queries and keys."""
    x, cos, sin = normal(N, H + K, C, trained=True), normal(N, C // 2), normal(N, C // 2)
    return Kernel(lambda impl: rope(x, cos, sin, impl=impl), x)


def gate() -> Kernel:
    """The MLP's gate and up, side by side."""
    x = normal(N, 2 * F, trained=True)
    return Kernel(lambda impl: glu(x, "silu", impl=impl), x)


def head() -> Kernel:
    """The scored rows under a frozen head."""
    x, weight = normal(SCORED, D, trained=True), normal(V, D)
    targets = torch.zeros(SCORED, dtype=torch.int64, device="cuda")
    return Kernel(lambda impl: linear_log_prob(x, weight, targets, impl=impl), x)


def weight_of_four_bits() -> Kernel:
    """The weight of the MLP's gate and up, written in bfloat16."""
    count = D * F
    packed = Packed(
        codes=_bytes(count // 2),
        table=normal(16, dtype=torch.float32),
        scale_codes=_bytes(count // 64),
        scale_table=normal(256, dtype=torch.float32),
        factors=normal(count // 64 // 256, dtype=torch.float32),
        shape=torch.Size((F, D)),
        bits=4,
        group=64,
    )
    return Kernel(lambda impl: dequantize(packed, dtype=torch.bfloat16, impl=impl))


def adapter_in() -> Kernel:
    """The product with A, activations in 16 bits and A in 32."""
    x, a = normal(N, D), normal(D, R, dtype=torch.float32)
    return Kernel(lambda impl: mixed_product(x, a, impl=impl))


def adapter_out() -> Kernel:
    """What B adds to the output of a layer."""
    out, left = normal(N, D), normal(N, R, dtype=torch.float32)
    right = normal(R, D, dtype=torch.float32)
    return Kernel(lambda impl: add_low_rank_(out, left, right, scale=0.01, impl=impl))


def attention(segments: Segments) -> Kernel:
    """Attention of rows, or of answers that share a prompt."""
    tokens = sum(segments.lengths)
    q, k, v = normal(tokens, H, C, trained=True), normal(tokens, K, C), normal(tokens, K, C)
    return Kernel(lambda impl: segment_attention(q, k, v, segments, impl=impl), q, impl="flash")


KERNELS: dict[str, Callable[[], Kernel]] = {
    "rms_norm": norm,
    "rope": rotary,
    "glu": gate,
    "linear_log_prob": head,
    "dequantize": weight_of_four_bits,
    "mixed_product": adapter_in,
    "add_low_rank": adapter_out,
    "segment_attention, 4 rows": lambda: attention(Segments((1024,) * 4, (None,) * 4)),
    "segment_attention, 8 answers": lambda: attention(
        Segments((1024,) + (128,) * 8, (None,) + (0,) * 8)
    ),
}


def _bytes(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.uint8, device="cuda").random_(0, 256)


def _first(answer: Any) -> Tensor:
    first: Tensor = answer if isinstance(answer, Tensor) else answer[0]
    return first


def timed(kernel: Kernel, candidates: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return the median milliseconds of each candidate, the candidates taking turns; errors by name."""
    calls, milliseconds, errors = {}, {name: [] for name in candidates}, {}
    for name, run in candidates.items():
        try:
            calls[name] = kernel.call(run)
            calls[name]()
        except (RuntimeError, UnsupportedError, triton.TritonError) as e:
            errors[name] = f"{type(e).__name__}: {e}"[:500]
            calls.pop(name, None)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            one = triton.testing.do_bench(call, warmup=WARM_UP, rep=TIMED, return_mode="median")
            milliseconds[name].append(one)
    return {
        "milliseconds": {name: statistics.median(milliseconds[name]) for name in calls},
        "errors": errors,
    }


def called(kernel: Kernel, candidates: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Call each candidate but the compiled once, where there is no card to time."""
    for name, run in candidates.items():
        if name != "torch.compile":
            kernel.call(run)()
    return {"milliseconds": {}, "errors": {}}


def measure(seconds: float, measured: Callable[..., dict[str, Any]]) -> None:
    """Print a line for each operation, as many as there is time for."""
    end = time.perf_counter() + seconds
    for name, make in KERNELS.items():
        if measured is timed and time.perf_counter() > end:
            line: dict[str, Any] = {"left_out": "no time was left"}
        else:
            torch.compiler.reset()
            kernel = make()

            def eager(kernel: Kernel = kernel) -> Any:
                return kernel.run("reference")

            candidates = {
                "strop": lambda kernel=kernel: kernel.run(kernel.impl),
                "eager": eager,
                "torch.compile": torch.compile(eager),
            }
            line = measured(kernel, candidates)
        print(json.dumps({"operation": name} | line), flush=True)


def main() -> None:
    """Time on the card that is here, or call on a fake one."""
    if torch.cuda.is_available():
        torch.manual_seed(0)
        measure(float(sys.argv[1]), timed)
        return
    launch_without_data()
    triton.runtime.driver.set_active(NoCard("sm_90"))
    with torch.autograd.set_multithreading_enabled(False), contextlib.ExitStack() as stack:
        stack.enter_context(FakeCuda())
        measure(0.0, called)


if __name__ == "__main__":
    main()
