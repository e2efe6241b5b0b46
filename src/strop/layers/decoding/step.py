"""One new token of each row through all blocks in one call of C++, and the logits after it."""

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from strop.core import native
from strop.layers.attention_half import AttentionHalf
from strop.layers.decoding.cache import Piece, spans
from strop.layers.mlp_half import MlpHalf
from strop.layers.norm import Norm
from strop.ops.dequantize.packed import Packed
from strop.ops.lora_linear.parts import LinearParts, write_dense

SOURCE = Path(__file__).with_name("step.cpp")
SIGNATURE = "ppppppp" + "qqqqqq" + "i"
KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
PAIRS = 7
"""Weights in bfloat16 of a model that rounds its activations to bfloat16 too."""
PACKED = {4: 3, 5: 4, 6: 5, 8: 6}
ACTIVATIONS = {"silu": 0, "gelu_tanh": 1, "gelu": 2}

_P, _Q, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Norm(ctypes.Structure):
    _fields_ = (("weight", _P), ("eps", _F), ("offset", _F))


class _Linear(ctypes.Structure):
    _fields_ = (
        *((n, _P) for n in ("weight", "bias", "a", "b", "factor", "table", "scale_codes")),
        *((n, _P) for n in ("scale_table", "factors")),
        *((n, _Q) for n in ("kind", "E", "D", "R", "group", "scale_group")),
        ("scale", _F),
        ("offset", _F),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((n, _Norm) for n in ("norm", "q_norm", "k_norm", "post_norm", "mlp_norm", "post_mlp")),
        ("qkv", _Linear * 3),
        ("o", _Linear),
        ("gate_up", _Linear * 2),
        ("down", _Linear),
        ("cos", _P),
        ("sin", _P),
        *((n, _Q) for n in ("qkv_count", "gate_up_count", "H", "K", "C", "P", "window")),
        ("activation", _Q),
        ("scale", _F),
        ("softcap", _F),
    )


class _Head(ctypes.Structure):
    _fields_ = (("norm", _Norm), ("linear", _Linear), ("scale", _F), ("softcap", _F))


Halves = tuple[AttentionHalf, MlpHalf]


def linear_obstacle(part: LinearParts) -> str | None:
    """Return why a linear layer's weight cannot be read as it is stored, or None if it can."""
    if isinstance(part.weight, Packed):
        whole = part.weight.shape[1] % part.weight.group == 0
        return None if whole else "a group of its packed weights spans two rows"
    known = part.weight.dtype in KINDS and part.weight.is_contiguous()
    return None if known else f"a weight is {part.weight.dtype}, or does not lie row by row"


class Step:
    """The blocks of a decoder and its head, read for as long as the object lives.

    Beside the cache it has, in numbers per row: D + 2 max(F, D, (H + 2 K) C) + the adapters' ranks.
    Products of a model that computes in bfloat16 take their inputs rounded to it, as the model does,
    where the processor multiplies such numbers; all else is in float32.
    """

    def __init__(
        self,
        halves: Sequence[Halves],
        last_norm: Norm,
        head: LinearParts,
        head_scale: float = 1.0,
        head_softcap: float | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._dtype = dtype
        self.tensors: list[Tensor] = []  # what the C++ has addresses of
        layers = (_Layer * len(halves))()
        for i, (attention, mlp) in enumerate(halves):
            self._read(layers[i], attention, mlp)
        top = _Head(self._norm(last_norm), self._linear(head), head_scale, head_softcap or 0.0)
        self._layers = torch.frombuffer(layers, dtype=torch.uint8)
        self._head = torch.frombuffer(top, dtype=torch.uint8)
        first = halves[0][0]
        self.layers, self.key_heads, self.features = len(halves), first.key_heads, first.features
        parts = [part for a, m in halves for part in (*a.qkv, a.o, *m.gate_up, m.down)]
        self._D, self._V = head.weight.shape[1], head.weight.shape[0]
        widths = [(a.heads + 2 * a.key_heads) * a.features for a, _ in halves]
        inner = max(m.down.weight.shape[1] for _, m in halves)
        self._most = max(*widths, inner, self._D)
        self._ranks = 3 * max((len(p.a) for p in parts if p.a is not None), default=0)

    def __call__(
        self, x: Tensor, pieces: list[list[Piece]], angles: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Return the logits [B, V] in float32.

        Args:
            x: [B, D] the embeddings of the new tokens in float32; overwritten.
            pieces: of each row, the last one with the place of the new token counted.
            angles: cosines and sines [B, P] of the new tokens' positions, for each block.
        """
        run = function()
        assert run is not None
        B = len(x)
        places = torch.tensor(
            [
                [row[-1].block.data_ptr(), row[-1].count - 1, row[-1].start + row[-1].count - 1]
                for row in pieces
            ]
        )
        self._set_angles(angles)
        table = spans(pieces)
        logits = torch.empty(B, self._V)
        scratch = torch.empty(B * (2 * self._most + self._ranks))
        run(
            x, self._layers, self._head, table, places, logits, scratch, self.layers, len(table), B,
            self._D, self._most, self._ranks, torch.get_num_threads(),
        )  # fmt: skip
        return logits

    def _set_angles(self, angles: Sequence[tuple[Tensor, Tensor]]) -> None:
        layers = (_Layer * self.layers).from_address(self._layers.data_ptr())
        for layer, (cos, sin) in zip(layers, angles, strict=True):
            layer.cos, layer.sin = cos.data_ptr(), sin.data_ptr()

    def _read(self, layer: "_Layer", attention: AttentionHalf, mlp: MlpHalf) -> None:
        norms = {
            "norm": attention.norm,
            "q_norm": attention.q_norm,
            "k_norm": attention.k_norm,
            "post_norm": attention.post_norm,
            "mlp_norm": mlp.norm,
            "post_mlp": mlp.post_norm,
        }
        for name, norm in norms.items():
            if norm is not None:
                setattr(layer, name, self._norm(norm))
        for i, part in enumerate(attention.qkv):
            layer.qkv[i] = self._linear(part)
        for i, part in enumerate(mlp.gate_up):
            layer.gate_up[i] = self._linear(part)
        layer.o, layer.down = self._linear(attention.o), self._linear(mlp.down)
        layer.qkv_count, layer.gate_up_count = len(attention.qkv), len(mlp.gate_up)
        layer.H, layer.K, layer.C = attention.heads, attention.key_heads, attention.features
        layer.P, layer.window = attention.attended.cos.shape[1], attention.window or 0
        layer.activation = ACTIVATIONS[mlp.activation]
        layer.scale, layer.softcap = attention.scale, attention.softcap or 0.0

    def _norm(self, norm: Norm) -> _Norm:
        return _Norm(self._floats(norm.weight), norm.eps, float(norm.unit_offset))

    def _linear(self, part: LinearParts) -> _Linear:
        E, D = part.weight.shape
        linear = _Linear(E=E, D=D, scale=part.scale, bias=self._floats(part.bias))
        if isinstance(part.weight, Packed):
            packed = part.weight
            linear.kind = PACKED[packed.bits]
            linear.weight = self._address(packed.codes)
            linear.table = self._address(packed.table)
            if packed.scale_table is None or packed.factors is None:
                linear.scale_codes = self._floats(packed.scale_codes)
            else:
                linear.scale_codes = self._address(packed.scale_codes)
                linear.scale_table = self._address(packed.scale_table)
                linear.factors = self._address(packed.factors)
            linear.group, linear.scale_group = packed.group, packed.scale_group
            linear.offset = packed.offset
        else:
            both = part.weight.dtype == self._dtype == torch.bfloat16
            linear.kind = PAIRS if both else KINDS[part.weight.dtype]
            linear.weight = self._address(part.weight)
        if part.a is not None and part.b is not None:
            linear.R = len(part.a)
            linear.a, linear.b = self._floats(part.a), self._floats(part.b)
            if part.magnitude is not None:
                rows = write_dense(part.weight, torch.empty(E, D))
                rows.addmm_(part.b.float(), part.a.float(), alpha=part.scale)
                norms = torch.linalg.vector_norm(rows, dim=1)
                linear.factor = self._floats(part.magnitude.float() / norms)
        return linear

    def _floats(self, tensor: Tensor | None) -> int | None:
        return None if tensor is None else self._address(tensor.detach().float().contiguous())

    def _address(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return tensor.data_ptr()


def function() -> Callable[..., None] | None:
    """Return the compiled step, or None where there is no compiler."""
    return native.function(SOURCE, "decoder_step", SIGNATURE)
