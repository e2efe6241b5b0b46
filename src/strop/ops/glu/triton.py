"""Gated linear unit on a GPU: one pass forward, one backward that recomputes the activation."""

import triton
import triton.language as tl
from torch import Tensor

from strop.core.dataless import launches

BLOCK = 2048
"""Features of a row a program takes, 16 to a lane of 32: two loads of 128 bits in 16-bit formats."""


@triton.jit
def _logistic(z):
    """Return 1 / (1 + exp(-z)) and its derivative, neither of them a difference of like numbers."""
    small = tl.exp(-tl.abs(z))
    share = 1.0 / (1.0 + small)
    return tl.where(z >= 0.0, share, small * share), small * share * share


@triton.jit
def _activated(gate, ACTIVATION: tl.constexpr):
    """Return the activation and its derivative; 0.5 (1 + tanh(z)) is the logistic function of 2 z."""
    if ACTIVATION == "silu":
        share, slope = _logistic(gate)
        return gate * share, share + gate * slope
    if ACTIVATION == "gelu_tanh":
        square = gate * gate
        share, slope = _logistic(1.5957691216057308 * gate * (1.0 + 0.044715 * square))
        inner = 1.5957691216057308 * (1.0 + 0.134145 * square)
        return gate * share, share + gate * slope * inner
    share = 0.5 * (1.0 + tl.erf(0.7071067811865476 * gate))
    density = 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
    return gate * share, share + gate * density


@triton.jit
def _forward_kernel(
    GateUp, Act, gate_up_n, gate_up_f, act_n, F, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = cols < F
    gate_at = GateUp + row * gate_up_n + cols * gate_up_f
    gate = tl.load(gate_at, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gate_at + F * gate_up_f, mask=mask, other=0.0).to(tl.float32)
    value, _ = _activated(gate, ACTIVATION)
    tl.store(Act + row * act_n + cols, (value * up).to(Act.dtype.element_ty), mask=mask)


@triton.jit
def _backward_kernel(
    DAct, GateUp, DGateUp, Act, dact_n, dact_f, gate_up_n, gate_up_f, dgate_up_n, dgate_up_f, act_n, F,
    ACTIVATION: tl.constexpr, ACT_NEEDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = cols < F
    gate_at = GateUp + row * gate_up_n + cols * gate_up_f
    gate = tl.load(gate_at, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gate_at + F * gate_up_f, mask=mask, other=0.0).to(tl.float32)
    dact = tl.load(DAct + row * dact_n + cols * dact_f, mask=mask, other=0.0).to(tl.float32)
    value, slope = _activated(gate, ACTIVATION)
    dgate_at = DGateUp + row * dgate_up_n + cols * dgate_up_f
    tl.store(dgate_at, (dact * up * slope).to(DGateUp.dtype.element_ty), mask=mask)
    dup = (dact * value).to(DGateUp.dtype.element_ty)
    tl.store(dgate_at + F * dgate_up_f, dup, mask=mask)
    if ACT_NEEDED:
        tl.store(Act + row * act_n + cols, (value * up).to(Act.dtype.element_ty), mask=mask)


def forward(gate_up: Tensor, activation: str, *, out: Tensor | None = None) -> Tensor:
    """Return act [N, F] of gate_up [N, 2F], without autograd; in `out`, contiguous, if given."""
    N, F = gate_up.shape[0], gate_up.shape[1] // 2
    act = gate_up.new_empty(N, F) if out is None else out
    if act.numel() and launches(gate_up):
        tile = _tile(F)
        _forward_kernel[N, triton.cdiv(F, tile["BLOCK"])](
            gate_up, act, *gate_up.stride(), act.stride(0), F, ACTIVATION=activation, **tile
        )
    return act


def backward(
    dact: Tensor,
    gate_up: Tensor,
    activation: str,
    *,
    act: Tensor | None = None,
    overwrite: bool = False,
) -> Tensor:
    """Return the gradient of `gate_up`, and write act; see `ops.glu.eager.backward`."""
    N, F = dact.shape
    dgate_up = gate_up if overwrite else gate_up.new_empty(gate_up.shape)
    if dact.numel() and launches(gate_up):
        tile = _tile(F)
        _backward_kernel[N, triton.cdiv(F, tile["BLOCK"])](
            dact, gate_up, dgate_up, act,
            *dact.stride(), *gate_up.stride(), *dgate_up.stride(), F, F,
            ACTIVATION=activation, ACT_NEEDED=act is not None, **tile,
        )  # fmt: skip
    return dgate_up


def _tile(F: int) -> dict[str, int]:
    """Return how many features a program takes, and its warps."""
    block = min(triton.next_power_of_2(F), BLOCK)
    return {"BLOCK": block, "num_warps": max(block // 512, 1), "enable_fp_fusion": True}
