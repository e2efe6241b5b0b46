"""The attention kernels PyTorch ships, with the log-sum-exp by which their results merge.

Called are ATen's own operators, below `scaled_dot_product_attention`, which keeps the log-sum-exp to
itself. PyTorch's ring attention (torch.distributed.tensor.experimental) does the same with the same
three: results of several calls merged, backward given the merged output and log-sum-exp. FlexAttention
takes any mask in one call and is public, but compiles itself at run time for the shapes it meets, and
has no backward that can be called by itself: a block that computes its attention again in backward
would do it twice.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from strop.core.dataless import has_data

_aten = torch.ops.aten


class Kernel(Protocol):
    """Attention of queries [1, H, n, C] to keys and values [1, K, m, C]."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Return the output [1, H, n, C] and the log-sum-exp [1, H, n]."""

    def backward(
        self, dout: Tensor, saved: tuple[Tensor, ...], causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of q, k and v; saved are q, k, v, the output and the log-sum-exp."""


def kernel_for(q: Tensor) -> Kernel | None:
    """Return the kernel for queries like `q` [N, H, C], or None where PyTorch has none.

    On a CPU that is flash attention in any format. On NVIDIA's and AMD's cards it is flash attention
    in 16 bits; in float32, and on cards before Ampere in float16, the memory-efficient kernel. Both
    want heads of whole 16 bytes. Flash attention has no backward for 193 to 224 features on the
    smaller cards of Ampere and Ada, and none above 256.
    """
    if q.device.type == "cpu":
        return _Cpu()
    if q.device.type != "cuda" or q.shape[-1] * q.element_size() % 16 or q.dtype == torch.float64:
        return None
    ampere = _is_ampere_or_newer(q)
    fits = q.shape[-1] <= 192 or 224 < q.shape[-1] <= 256
    if ampere and fits and q.dtype != torch.float32:
        return _Flash()
    return _MemoryEfficient() if ampere or q.dtype != torch.bfloat16 else None


def _is_ampere_or_newer(q: Tensor) -> bool:
    """Return whether the card of `q` is Ampere or newer; fake devices and AMD's cards count as such."""
    if not has_data(q) or torch.version.hip is not None:
        return True
    return torch.cuda.get_device_capability(q.device) >= (8, 0)


@dataclass(frozen=True, slots=True)
class _Cpu:
    """Takes fewer key heads than query heads, any strides and formats."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor]:
        out, lse = _aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, causal, scale=scale
        )
        return out, lse

    def backward(
        self, dout: Tensor, saved: tuple[Tensor, ...], causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        backward = _aten._scaled_dot_product_flash_attention_for_cpu_backward
        dq, dk, dv = backward(dout, *saved, 0.0, causal, scale=scale)
        return dq, dk, dv


@dataclass(frozen=True, slots=True)
class _Flash:
    """Takes fewer key heads than query heads; its backward reads the log-sum-exp without strides."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor]:
        out, lse, *_ = _aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, scale=scale)
        return out, lse

    def backward(
        self, dout: Tensor, saved: tuple[Tensor, ...], causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, lse = saved
        seed = torch.empty(2, dtype=torch.uint64, device=q.device)  # read with dropout only
        dq, dk, dv = _aten._scaled_dot_product_flash_attention_backward(
            dout, q, k, v, out, lse.contiguous(), None, None, q.shape[2], k.shape[2], 0.0, causal,
            seed, seed, scale=scale,
        )  # fmt: skip
        return dq, dk, dv


@dataclass(frozen=True, slots=True)
class _MemoryEfficient:
    """Takes as many key heads as query heads; its log-sum-exp is as long as a multiple of 32."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor]:
        keys, values = (_repeated(t, q.shape[1]) for t in (k, v))
        out, lse, *_ = _aten._scaled_dot_product_efficient_attention(
            q, keys, values, None, True, 0.0, causal, scale=scale
        )
        return out, lse[:, :, : q.shape[2]]

    def backward(
        self, dout: Tensor, saved: tuple[Tensor, ...], causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, lse = saved
        K, H = k.shape[1], q.shape[1]
        seed = torch.empty((), dtype=torch.int64, device=q.device)  # read with dropout only
        padding = 0 if torch.version.hip else -lse.shape[2] % 32
        dq, dk, dv, _ = _aten._scaled_dot_product_efficient_attention_backward(
            dout, q, _repeated(k, H), _repeated(v, H), None, out, F.pad(lse, (0, padding)), seed,
            seed, 0.0, [True, True, True, False], causal, scale=scale,
        )  # fmt: skip
        return dq, *(t.unflatten(1, (K, H // K)).sum(2) for t in (dk, dv))


def _repeated(t: Tensor, H: int) -> Tensor:
    """Return [1, K, m, C] as [1, H, m, C]."""
    return t if t.shape[1] == H else t.repeat_interleave(H // t.shape[1], 1)
