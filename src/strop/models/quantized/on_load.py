"""Linear weights of a plain model put into 4 bits, once, in the cache."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from strop.core.cache import cached_folder
from strop.core.errors import DataError, UnsupportedError, spelt
from strop.core.files import read_json, reading
from strop.core.progress import Progress, silent
from strop.core.quiet import quiet
from strop.layers.quantized_linear import QuantizedLinear
from strop.models.dtype import default_device
from strop.models.files.opening import open_folder, read_config, read_tokenizer
from strop.models.files.weight_files import weight_files
from strop.models.identity import weights_identity
from strop.models.precision import narrow
from strop.models.quantized.block_runner import take_apart
from strop.models.quantized.calibration_text import sequences
from strop.ops.dequantize.packed import Packed
from strop.quantization.compress import Calibrated, compress
from strop.quantization.formats import FORMATS
from strop.quantization.linear_layers import linear_layers
from strop.quantization.matrix import quantize
from strop.quantization.model import check_finite

_RULES = 2
"""Raise it when the result would come out different, and old caches are made anew."""
FORMS = ("4b64", "4b32")
"""The first whose groups fill the rows of a weight is taken."""
SHARD = "1GB"
SEQUENCES = 8
"""Of the packaged text."""
FITTING = "fitting 4 bits, block by block"
"""Stage of progress."""
UNSEEN = 0.01
"""Share of a model's weights that may lie in layers of kinds that are left as they are."""

logger = logging.getLogger(__name__)


def packed_folder(folder: Path, progress: Progress = silent) -> Path:
    """Return a folder with the weights of `folder` in 4 bits, made on first use.

    Every linear layer but the head takes 4 bits, block by block: errors are fed back by the inputs
    that a packaged text gives each layer behind the blocks quantised before it (GPTQ,
    arXiv:2210.17323). `strop quantize` does better within a budget, at several times the work: it
    asks gradients, too, and gives more bits where they matter. Embeddings and head are held in 16 bits.

    Args:
        folder: of the plain model.
        progress: called with the stage `FITTING` where the weights are not in the cache.

    Raises:
        UnsupportedError: weights of the model are in no linear layer, so they would be left out.
        DataError: a weight is NaN or infinite; it is named.
    """
    files = weight_files(folder)
    stats = {f.name: [f.stat().st_size, f.stat().st_mtime_ns] for f in files}
    with reading(folder / "config.json"):
        config = (folder / "config.json").read_text(encoding="utf-8")
    key = {"files": stats, "config": config, "rules": _RULES}
    name = f"{folder.name}-4bit-{_sample(files)}"
    return cached_folder(name, key, lambda out: _pack(folder, out, progress))


def codes_identity(folder: Path) -> str | None:
    """Return the SHA-256 of the codes of a model's weights in 4 bits; None where it holds them itself."""
    config = read_json(folder / "config.json")
    return None if "quantization_config" in config else weights_identity(packed_folder(folder))


def _sample(files: Sequence[Path]) -> str:
    """Return a name for the weights in `files`, by a few bytes from the middle of each tensor."""
    digest = hashlib.sha256()
    for file in files:
        with reading(file), file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(length)
            digest.update(header)
            for name, tensor in json.loads(header).items():
                if name != "__metadata__":
                    stream.seek(8 + length + sum(tensor["data_offsets"]) // 2)
                    digest.update(stream.read(64))
    return digest.hexdigest()[:12]


def _pack(folder: Path, out: Path, progress: Progress) -> None:
    from strop.models.quantized.hf_quantizer import StropConfig

    logger.info("quantising %s to 4 bits, once", folder)
    progress(FITTING, 0, 0)
    model = open_folder(folder, read_config(folder), "auto")
    tokenizer = read_tokenizer(folder)
    check_linear(model)
    chosen = dict(quantisable(model))
    if not chosen:
        raise UnsupportedError(
            f"no linear layer of {type(model).__name__} has inputs in whole groups of "
            f"{FORMATS[FORMS[-1]].group}, so none can be stored in 4 bits; use {spelt('bits', 16)}"
        )
    model.to(default_device()).eval().requires_grad_(False)
    packed = _compressed(model, tokenizer, chosen, progress)
    for name, form in chosen.items():
        linear = model.get_submodule(name)
        model.set_submodule(
            name, holding(linear, packed.get(name) or _quantised(name, linear, form))
        )
    for module in model.modules():
        if type(module) is nn.Linear or isinstance(module, nn.Embedding):
            narrow(module)
    model.config.quantization_config = StropConfig(chosen)
    with quiet():
        model.save_pretrained(out, max_shard_size=SHARD)


def _compressed(
    model: Any, tokenizer: Any, chosen: Mapping[str, str], progress: Progress
) -> dict[str, Packed]:
    """Return the chosen layers that a text passes, each as what the blocks before it leave of it."""
    calibration, _ = sequences(tokenizer, None, model)
    decoder, entering = take_apart(model, calibration[:SEQUENCES])
    check_finite(decoder)
    forms = {name: FORMATS[form] for name, form in chosen.items()}

    def report(_: str, done: int, total: int) -> None:
        progress(FITTING, done, total)

    report("", 0, len(decoder.blocks))
    return compress(decoder, Calibrated(entering), None, forms, report).packed


def check_linear(model: Any) -> None:
    """Refuse a model with many weights outside linear layers, such as a mixture's experts.

    Raises:
        UnsupportedError: they would stay in 16 bits unsaid.
    """
    seen = {
        id(p)
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.Embedding)
        for p in m.parameters(recurse=False)
    }
    total = sum(p.numel() for p in model.parameters())
    unseen = {
        name: p.numel() for name, p in model.named_parameters() if id(p) not in seen and p.ndim > 1
    }
    count = sum(unseen.values())
    if count > UNSEEN * total:
        first = max(unseen, key=lambda name: unseen[name])
        raise UnsupportedError(
            f"{type(model).__name__} has {count / total:.0%} of its weights outside linear layers "
            f"({first} and {len(unseen) - 1} others), as mixtures of experts have; they cannot be "
            f"stored in 4 bits so far and would silently stay in 16; use {spelt('bits', 16)}"
        )


def quantisable(model: Any) -> Iterator[tuple[str, str]]:
    """Yield name and format of each linear layer that is quantised: all but the head."""
    head = model.get_output_embeddings()
    for name, module in linear_layers(model, without=head).items():
        if type(module) is not nn.Linear:
            continue
        form = next((f for f in FORMS if module.in_features % FORMATS[f].group == 0), None)
        if form is not None:
            yield name, form
        else:
            logger.warning(
                "%s stays in 16 bits: its %d inputs are no whole number of groups of %d",
                name, module.in_features, FORMATS[FORMS[-1]].group,
            )  # fmt: skip


def _quantised(name: str, linear: nn.Linear, form: str) -> Packed:
    try:
        return quantize(linear.weight.detach(), FORMATS[form])
    except DataError as e:
        raise DataError(f"{name}: {e}") from e


def holding(linear: nn.Linear, packed: Packed) -> QuantizedLinear:
    """Return a layer that holds `packed` and the bias of `linear`."""
    layer = QuantizedLinear(
        (linear.out_features, linear.in_features),
        packed.bits,
        packed.group,
        bias=linear.bias is not None,
        scale_group=packed.scale_group,
    )
    layer.take(packed)
    layer.bias = linear.bias
    return layer
