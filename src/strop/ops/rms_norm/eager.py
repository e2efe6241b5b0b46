"""RMS normalisation on any device: one pass over each row and direction, derivatives by hand.

In float32 and bfloat16 on a CPU by C++ (`cpu.cpp`), else in plain PyTorch.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from strop.core import native

SOURCE = Path(__file__).with_name("cpu.cpp")
SIGNATURES = {"rms_norm_forward": "ppppqqqqqqqfi", "rms_norm_backward": "ppppppqqqqqqqqqi"}


def forward(
    x: Tensor, weight: Tensor, eps: float, unit_offset: bool, *, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return y and the row scales 1 / sqrt(mean(x**2) + eps), without autograd.

    Args:
        x: [..., D], any strides.
        weight: [D].
        eps: see `strop.ops.rms_norm`.
        unit_offset: see `strop.ops.rms_norm`.
        out: [..., D] where y is written, may be `x` itself; None makes a contiguous one.

    Returns:
        y [..., D] and scale [...], the scale in float32 or wider.
    """
    out = x.new_empty(x.shape) if out is None else out
    if (run := _compiled("rms_norm_forward", x, out)) is not None:
        x, (N, H, D), strides = _rows(x)
        factor = _factor(weight, torch.float32, unit_offset)
        scale = x.new_empty(x.shape[:-1], dtype=torch.float32)
        run(
            x, factor, out, scale, N, H, D, *strides, *_rows(out)[2],
            eps, torch.get_num_threads(),
        )  # fmt: skip
        return out, scale
    wide = x.to(_wide(x))
    scale = torch.rsqrt(wide.square().mean(-1) + eps)
    unit = wide * scale[..., None]
    factor = _factor(weight, wide.dtype, unit_offset)
    y = (unit if unit_offset else unit.to(x.dtype)) * factor
    return out.copy_(y), scale


def backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    unit_offset: bool,
    *,
    weight_needs_grad: bool = False,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of `x` and, if asked for, of `weight`, without autograd.

        dunit = dy * weight                                     or dy * (1 + weight)
        dx = scale * (dunit - unit * mean(dunit * unit))        dweight = sum_n dy * unit

    Args:
        dy: [..., D], any strides.
        x: [..., D] as given to `forward`.
        weight: [D] as given to `forward`.
        scale: [...] from `forward`.
        unit_offset: as given to `forward`.
        weight_needs_grad: whether the second result is wanted.
        out: [..., D] where dx is written, may be `dy` or `x` itself; None makes a contiguous one.

    Returns:
        dx [..., D] in the dtype of `x`, and dweight [D] in the dtype of `weight` or None.
    """
    out = x.new_empty(x.shape) if out is None else out
    if (run := _compiled("rms_norm_backward", x, dy, out)) is not None:
        factor = _factor(weight, torch.float32, unit_offset)
        dfactor = _run_backward(run, dy, x, factor, scale, out, weight_needs_grad)
        return out, None if dfactor is None else dfactor.to(weight.dtype)
    wide = _wide(x)
    unit = x.to(wide) * scale[..., None]
    dunit = dy.to(wide) * _factor(weight, wide, unit_offset)
    dweight = _weight_gradient(dy, unit, x, weight, unit_offset) if weight_needs_grad else None
    dx = (dunit - unit * (dunit * unit).mean(-1, keepdim=True)).mul_(scale[..., None])
    return out.copy_(dx), dweight


def _run_backward(
    run: Callable[..., None],
    dy: Tensor,
    x: Tensor,
    factor: Tensor,
    scale: Tensor,
    out: Tensor | None,
    weight_needs_grad: bool,
) -> Tensor | None:
    threads = torch.get_num_threads()
    dy, (N, H, D), dy_strides = _rows(dy)
    x, _, x_strides = _rows(x)
    dfactor = factor.new_zeros(threads, D) if weight_needs_grad else None
    out_strides = (0, 0) if out is None else _rows(out)[2]
    run(
        dy, x, factor, scale, out, dfactor, N, H, D,
        *dy_strides, *x_strides, *out_strides, threads,
    )  # fmt: skip
    return None if dfactor is None else dfactor.sum(0)


def weight_gradient(
    dy: Tensor, x: Tensor, weight: Tensor, scale: Tensor, unit_offset: bool
) -> Tensor | None:
    """Return the gradient of `weight` alone, [D]; the arguments are those of `backward`."""
    if (run := _compiled("rms_norm_backward", x, dy)) is not None:
        factor = _factor(weight, torch.float32, unit_offset)
        dfactor = _run_backward(run, dy, x, factor, scale, None, True)
        return None if dfactor is None else dfactor.to(weight.dtype)
    unit = x.to(scale.dtype) * scale[..., None]
    return _weight_gradient(dy, unit, x, weight, unit_offset)


def _compiled(name: str, *tensors: Tensor) -> Callable[..., None] | None:
    """Return a function of cpu.cpp if it can take the tensors, the last of which it writes."""
    written = tensors[-1]
    fits = all(t.ndim in (2, 3) for t in tensors)
    if not fits or (written.stride(-1) != 1 and written.shape[-1] > 1):
        return None
    return native.function_for(SOURCE, name, SIGNATURES[name], *tensors)


def _rows(t: Tensor) -> tuple[Tensor, tuple[int, int, int], tuple[int, int]]:
    """Return `t` with neighbouring features, its sizes as [N, H, D], the strides of N and H."""
    if t.stride(-1) != 1 and t.shape[-1] > 1:
        t = t.contiguous()
    if t.ndim == 2:
        return t, (t.shape[0], 1, t.shape[1]), (t.stride(0), 0)
    return t, (t.shape[0], t.shape[1], t.shape[2]), (t.stride(0), t.stride(1))


def _factor(weight: Tensor, dtype: torch.dtype, unit_offset: bool) -> Tensor:
    factor = weight.detach().to(dtype).contiguous()
    return 1 + factor if unit_offset else factor


def _weight_gradient(
    dy: Tensor, unit: Tensor, x: Tensor, weight: Tensor, unit_offset: bool
) -> Tensor:
    rounded = unit if unit_offset else unit.to(x.dtype)
    return (dy.to(unit.dtype) * rounded).flatten(0, -2).sum(0).to(weight.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
