"""Reads what bitsandbytes notes beside the 4-bit weights it saves; the package is not needed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.core.errors import DataError, UnsupportedError
from strop.core.files import reading
from strop.models.files.weight_files import weight_files

RENAMINGS = {
    r"\.weight\.absmax$": ".scale_codes",
    r"\.weight\.nested_absmax$": ".factors",
    r"\.weight\.quant_map$": ".table",
    r"\.weight\.nested_quant_map$": ".scale_table",
}
"""bitsandbytes' names of a weight's parts, and those of `QuantizedLinear`."""
_NOTE = ".weight.quant_state.bitsandbytes__"


@dataclass(frozen=True, slots=True)
class BnbState:
    """How one weight [E, D] is stored."""

    name: str
    """nf4 or fp4: which table, for display; the table itself lies in the file."""
    shape: tuple[int, int]
    group: int
    nested: bool
    """The scales are in 8 bits with a factor for each `scale_group` of them."""
    scale_group: int = 256
    offset: float = 0.0


def read_states(folder: Path, config: Mapping[str, Any]) -> dict[str, BnbState]:
    """Return for each quantised layer in the safetensors files of `folder` how it is stored.

    Args:
        folder: of the checkpoint.
        config: the quantization_config of its config.json.

    Raises:
        UnsupportedError: it is quantised to 8 bits, or stored in another dtype than uint8.
        DataError: no weight in the files is quantised, though config.json says so.
    """
    from safetensors import safe_open

    if not config.get("load_in_4bit"):
        raise UnsupportedError(
            f"{folder} is quantised to 8 bits by bitsandbytes; strop reads its 4-bit checkpoints, "
            "or quantises the unquantised model itself"
        )
    states = {}
    for file in weight_files(folder):
        with reading(file), safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a dict
                layer, note, table = key.partition(_NOTE)
                if not note:
                    continue
                note = json.loads(bytes(tensors.get_tensor(key).tolist()))
                states[layer] = _state(table, note)
                dtype = tensors.get_slice(f"{layer}.weight").get_dtype()
                if dtype != "U8":
                    raise UnsupportedError(
                        f"{file} holds {layer} packed as {dtype}; strop reads checkpoints whose "
                        "4-bit weights are packed as uint8 (bnb_4bit_quant_storage)"
                    )
    if not states:
        raise DataError(
            f"the config.json of {folder} says that bitsandbytes quantised it, but no weight in "
            "it is quantised; delete its quantization_config"
        )
    return states


def _state(table: str, note: Mapping[str, Any]) -> BnbState:
    E, D = note["shape"]
    return BnbState(
        name=f"bitsandbytes-{table}",
        shape=(E, D),
        group=int(note["blocksize"]),
        nested="nested_blocksize" in note,
        scale_group=int(note.get("nested_blocksize", 256)),
        offset=float(note.get("nested_offset", 0.0)),
    )
