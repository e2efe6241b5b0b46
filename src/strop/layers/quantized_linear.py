"""A linear layer whose frozen weight is stored in few bits."""

from typing import Any

import torch
from torch import Tensor, nn

from strop.layers.frozen_product import product
from strop.ops.dequantize import dequantize
from strop.ops.dequantize.packed import Packed, code_bytes


class QuantizedLinear(nn.Linear):
    """y = x W^T + bias with W dequantised for each product; a gradient for x only.

    It is an `nn.Linear`, so that PEFT puts its plain adapter around it. `weight` holds the codes,
    in uint8: whoever wants numbers asks `dense`, and merging an adapter into it fails loudly.

    Args:
        shape: [E, D] of the weight.
        bits: of a code.
        group: weights that share a scale.
        table: [2 ** bits] float32, what the codes mean; None where it is loaded with the weights.
        scale_table: [256] float32, what the scales' codes mean.
        bias: whether there is one.
        nested: the scales are codes with a factor for each `scale_group` of them.
        scale_group: scales that share a factor.
        keeps_tables: the tables and the offset are loaded and saved with the weights.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        bits: int,
        group: int,
        *,
        table: Tensor | None = None,
        scale_table: Tensor | None = None,
        bias: bool = False,
        nested: bool = True,
        scale_group: int = 256,
        keeps_tables: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = shape
        self.bits, self.group, self.scale_group = bits, group, scale_group
        count = shape[0] * shape[1]
        blocks = -(-count // group)
        codes = torch.empty(code_bytes(count, bits), dtype=torch.uint8)
        self.weight = nn.Parameter(codes, requires_grad=False)
        dtype = torch.uint8 if nested else torch.float32
        self.register_buffer("scale_codes", torch.empty(blocks, dtype=dtype))
        wide = torch.float32  # whatever the default is while a model is built
        factors = torch.empty(-(-blocks // scale_group), dtype=wide) if nested else None
        self.register_buffer("factors", factors)
        table = torch.empty(2**bits, dtype=wide) if table is None else table
        self.register_buffer("table", table, persistent=keeps_tables)
        scales = torch.empty(256, dtype=wide) if scale_table is None else scale_table
        self.register_buffer("scale_table", scales if nested else None, persistent=keeps_tables)
        self.offset = 0.0
        row = nn.Parameter(torch.empty(shape[0]), requires_grad=False) if bias else None
        self.register_parameter("bias", row)

    @property
    def shape(self) -> torch.Size:
        """Return [E, D]."""
        return torch.Size((self.out_features, self.in_features))

    @property
    def packed(self) -> Packed:
        """Return the weight as it is stored."""
        return Packed(
            codes=self.weight,
            table=self.table,
            scale_codes=self.scale_codes,
            scale_table=self.scale_table,
            factors=self.factors,
            shape=self.shape,
            bits=self.bits,
            group=self.group,
            scale_group=self.scale_group,
            offset=self.offset,
        )

    @property
    def stored_bytes(self) -> int:
        """Return what codes and scales take."""
        stored = (self.weight, self.scale_codes, self.factors)
        return sum(t.nbytes for t in stored if t is not None)

    def take(self, packed: Packed) -> None:
        """Hold this weight; its shape, bits and groups are those of the layer."""
        self.weight = nn.Parameter(packed.codes, requires_grad=False)
        self.scale_codes, self.factors = packed.scale_codes, packed.factors
        self.table, self.scale_table = packed.table, packed.scale_table
        self.offset = packed.offset

    def dense(self, out: Tensor) -> Tensor:
        """Write the weight into `out` [E, D] and return it."""
        return dequantize(self.packed, out=out)

    def forward(self, x: Tensor) -> Tensor:
        """Return y [..., E] for x [..., D]; see `product`."""
        y = product(x, self.packed)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move the layer; its scales and tables stay in float32 whatever the model is cast to."""
        floats = ("scale_codes", "factors", "table", "scale_table")
        before = {name: getattr(self, name) for name in floats}
        super()._apply(fn, recurse)
        for name, old in before.items():
            now = getattr(self, name)
            if now is not None and now.dtype != old.dtype:
                setattr(self, name, old.to(now.device))
        return self

    def extra_repr(self) -> str:
        """Name sizes and storage."""
        has = self.bias is not None
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={has}"
        return f"{sizes}, bits={self.bits}, group={self.group}"
