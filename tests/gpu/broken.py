"""Kernels with one fault each, and the right ones beside them: what every check must tell apart."""

import sys

import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError

from strop.testing.gpu import watching
from strop.testing.gpu.launch import Launch, on_card


@triton.jit
def copy(X, Y, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + at, tl.load(X + at, mask=at < size), mask=at < size)


@triton.jit
def copy_loading_without_a_mask(X, Y, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + at, tl.load(X + at), mask=at < size)


@triton.jit
def copy_storing_without_a_mask(X, Y, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + at, tl.load(X + at, mask=at < size))


@triton.jit
def sum_by_every_program(X, Y, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(Y) + tl.sum(tl.load(X + at, mask=at < size, other=0.0), axis=0)
    tl.store(Y, total)


@triton.jit
def shift_in_place(X, Y, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    moved = tl.load(Y + at + 1, mask=at + 1 < size)
    tl.store(Y + at, moved, mask=at + 1 < size)


@triton.jit
def add_in_bfloat16(X, Y, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(X + at, mask=at < size)
    tl.store(Y + at, x + x, mask=at < size)


@triton.jit
def copy_of_far_apart(X, Y, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + at, tl.load(X + 2 * at, mask=at < size), mask=at < size)


@triton.jit
def share_of_sum(X, Y, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(X + at, mask=at < size, other=0.0).to(tl.float32)
    tl.store(Y + at, (x / tl.sum(x, axis=0)).to(Y.dtype.element_ty), mask=at < size)


@triton.jit
def product(X, Y, size, BLOCK: tl.constexpr):
    rows = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    x = tl.load(X + rows)
    tl.store(Y + rows, tl.dot(x, x).to(Y.dtype.element_ty))


def run(name: str) -> None:
    """Launch one kernel on 100 elements."""
    dtype = torch.bfloat16 if name == "add_in_bfloat16" else torch.float32
    x, y = torch.ones(100, dtype=dtype), torch.ones(100, dtype=dtype)
    globals()[name][(4,)](x, y, 100, BLOCK=32)


def launch(kernel, size, block, **options):
    x, y = on_card(size), on_card(size)
    options = {"enable_fp_fusion": True, **options}
    kernel[(1,)](x, y, size, BLOCK=block, **options)


def launch_too_much():
    """Keep more of each thread than it has registers: on AMD's cards few, as filling 512 takes long."""
    target = triton.runtime.driver.active.get_current_target()
    each, options = (128, {"waves_per_eu": 8}) if target.backend == "hip" else (512, {})
    size = each * target.warp_size
    launch(share_of_sum, size, size, num_warps=1, **options)


LAUNCHES = [
    Launch("right", lambda: launch(copy, 4096, 2048)),
    Launch("far apart", lambda: launch(copy_of_far_apart, 4096, 1024)),
    Launch("not aligned", lambda: launch(copy, 4095, 1024), aligned=False),
    Launch("too much for one warp", launch_too_much),
    Launch("tensor cores", lambda: launch(product, 64 * 64, 64)),
]


if __name__ == "__main__":
    watching.install()
    for name in sys.argv[1:]:
        try:
            run(name)
            found = "nothing"
        except InterpreterError as e:
            found = str(e)
        sys.stdout.write(f"{name}: {found}\n")
