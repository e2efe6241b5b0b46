"""Weights that a folder holds in few bits, read one by one: the model need not be built."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from strop.core.files import read_json
from strop.models.quantized.bitsandbytes import RENAMINGS, BnbState, read_states
from strop.ops.dequantize.packed import Packed
from strop.quantization.formats import FORMATS, SCALE_GROUP, scale_table


def forms_of(folder: Path) -> dict[str, str | BnbState]:
    """Return how a quantised folder stores each layer that it holds in few bits.

    Args:
        folder: what `load` opens with bits=4 as it is.
    """
    config = read_json(folder / "config.json")
    stored = config["quantization_config"]
    states = read_states(folder, stored) if stored.get("load_in_4bit") else stored["modules"]
    return dict(states)


def module_key(key: str) -> str:
    """Return the name that `QuantizedLinear` has for a tensor of a file."""
    return next(
        (re.sub(p, replacement, key) for p, replacement in RENAMINGS.items() if re.search(p, key)),
        key,
    )


def packed(form: str | BnbState, shape: tuple[int, int], parts: Mapping[str, Tensor]) -> Packed:
    """Return a weight [E, D] as it is stored.

    Args:
        form: of its layer, as `forms_of` has it.
        shape: of the weight.
        parts: the tensors of the layer by the names that `QuantizedLinear` has for them.
    """
    if isinstance(form, str):
        stored, offset = FORMATS[form], 0.0
        bits, group, scale_group = stored.bits, stored.group, SCALE_GROUP
        parts = {**parts, "table": stored.table(), "scale_table": scale_table()}
    else:
        bits, group, scale_group, offset = 4, form.group, form.scale_group, form.offset
    return Packed(
        codes=parts["weight"],
        table=parts["table"],
        scale_codes=parts["scale_codes"],
        scale_table=parts.get("scale_table"),
        factors=parts.get("factors"),
        shape=torch.Size(shape),
        bits=bits,
        group=group,
        scale_group=scale_group,
        offset=offset,
    )
