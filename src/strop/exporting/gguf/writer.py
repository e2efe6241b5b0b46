"""Writes a run as one GGUF file, tensor by tensor."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType, GGUFWriter, LlamaFileType
from numpy.typing import NDArray
from torch import Tensor

from strop.core.errors import UnsupportedError
from strop.core.progress import Written
from strop.exporting.gguf import architectures
from strop.exporting.gguf import types as gguf_types
from strop.exporting.gguf.channel_scaling import CHANNELS_SCALED, ChannelScaling
from strop.exporting.gguf.mixture import Mixture
from strop.exporting.gguf.q8_0 import ErrorFeedback
from strop.exporting.gguf.vocabulary import vocabulary
from strop.exporting.weights.rotary import halves_to_pairs
from strop.exporting.weights.tuned import BaseWeights, Update
from strop.models.assets import ModelAssets


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor of a GGUF file."""

    name: str
    """GGUF's."""
    source: str
    """transformers'."""
    shape: tuple[int, ...]
    type: Type

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape[:-1]) * gguf_types.row_bytes(self.type, self.shape[-1])


class GgufFile:
    """A GGUF file that is to be written."""

    def __init__(
        self,
        weights: BaseWeights,
        assets: ModelAssets,
        quant: str,
        mixed: Mixture | None = None,
        scaling: ChannelScaling | None = None,
    ) -> None:
        """List the tensors of the file.

        Args:
            weights: of the tuned model, or of its base.
            assets: what surrounds them.
            quant: a name of `gguf_types.FILE_TYPES`.
            mixed: formats that single tensors get instead.
            scaling: by which channels are scaled in Q8_0, and errors weighed in fewer bits.

        Raises:
            UnsupportedError: llama.cpp has no such model, or a tensor that it does not know.
        """
        self.weights, self.assets = weights, assets
        kind, self._file_type = gguf_types.FILE_TYPES[quant]
        types = mixed.types if mixed else {}
        if mixed:
            self._file_type = LlamaFileType.GUESSED
        self._scaling = scaling if kind == Type.Q8_0 and not mixed else None
        activation_stats = {} if scaling is None else scaling.activation_stats
        self._importance = mixed.importance if mixed else activation_stats
        tensors, depth = list(self._named()), assets.text_config.num_hidden_layers
        tied = not any(named == "output.weight" for _, named, _ in tensors)

        def type_of(name: str, named: str, shape: tuple[int, ...]) -> Type:
            if name in types:
                return types[name]
            more = gguf_types.with_more_bits(quant, named, depth, tied=tied)
            return gguf_types.fitting(Type.Q6_K if more else kind, shape)

        self.tensors = [
            Planned(named, name, shape, type_of(name, named, shape))
            for name, named, shape in tensors
        ]
        self.rotary = dict(architectures.rotary_tensors(assets.text_config))

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def _named(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        known = architectures.names(self.assets.text_config)
        for name in self.weights.names:
            if (named := architectures.named(known, name)) is not None:
                yield name, named, self.weights.shape(name)
            elif not architectures.of_images(name):
                raise UnsupportedError(f"the tensor {name} has no place in a GGUF file")

    def write(self, file: Path, written: Written) -> None:
        """Write the file.

        Args:
            file: does not exist yet.
            written: called with the bytes of each tensor that is written.
        """
        writer = GGUFWriter(
            file, architectures.architecture_of(self.assets.text_config).arch.name.lower()
        )
        add_fields(writer, self._fields())
        for name, factors in self.rotary.items():
            values = factors.numpy()
            writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes, Type.F32)
        for tensor in self.tensors:
            writer.add_tensor_info(
                tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, tensor.type
            )
        write_header(writer)
        with file.open("ab") as stream:
            pad(stream)
            for factors in self.rotary.values():
                stream.write(factors.numpy().tobytes())
                pad(stream)
            for tensor in self.tensors:
                encode = self._encoding(tensor)
                for rows in self.rows(tensor):
                    stream.write(encode(rows).data)
                pad(stream)
                written(tensor.nbytes)

    def _encoding(self, tensor: Planned) -> Callable[[Tensor], NDArray[np.uint8]]:
        """Return the function that encodes rows of a tensor."""
        update, scaling = self.weights.update(tensor.source), self._scaling
        if isinstance(update, Update) and tensor.type == Type.Q8_0:
            scaled = scaling.update(tensor.source, update) if scaling else update
            return ErrorFeedback(scaled).q8_0
        importance = self._importance.get(tensor.source)
        return functools.partial(gguf_types.encode, kind=tensor.type, importance=importance)

    def rows(self, tensor: Planned) -> Iterator[Tensor]:
        """Yield the values of one of `tensors` as llama.cpp wants them, some rows at a time."""
        config = self.assets.text_config
        heads = architectures.permuted_heads(config, tensor.source)
        head = tensor.shape[0] // heads if heads else 1
        offset = architectures.GGUF_ARCHITECTURES[config.model_type].unit_offset
        start = 0
        for block in self.weights.blocks(tensor.source, head):
            rows = self._scaling.apply(tensor.source, block, start) if self._scaling else block
            start += len(rows)
            if heads:
                yield halves_to_pairs(rows, head)
            elif offset and tensor.source.endswith("norm.weight"):
                yield rows + 1
            else:
                yield rows

    def _fields(self) -> dict[str, Any]:
        config = self.assets.text_config
        arch = architectures.architecture_of(config).arch.name.lower()
        of_model = {f"{arch}.{key}": value for key, value in architectures.metadata(config).items()}
        return {
            "general.type": "model",
            "general.name": self.assets.folder.name,
            "general.file_type": int(self._file_type),
            "general.quantization_version": 2,
            **of_model,
            **({CHANNELS_SCALED: True} if self._scaling else {}),
            **vocabulary(self.assets, config.vocab_size),
        }


def add_fields(writer: GGUFWriter, fields: dict[str, Any]) -> None:
    """Add fields, each in the type that llama.cpp reads it in."""
    for name, value in fields.items():
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            kinds = {int: GGUFValueType.INT32, float: GGUFValueType.FLOAT32}
            sub = kinds.get(type(value[0]), GGUFValueType.STRING)
            writer.add_key_value(name, value, GGUFValueType.ARRAY, sub_type=sub)


def write_header(writer: GGUFWriter) -> None:
    """Write everything before the values; they are appended to the file afterwards."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def pad(stream: Any) -> None:
    """Go on to where the next tensor begins."""
    stream.write(b"\0" * (-stream.tell() % 32))
