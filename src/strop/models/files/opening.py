"""A model folder opened by transformers, once every tensor in it is known to have a place."""

import copy
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from strop.core.errors import DataError
from strop.core.files import reading
from strop.core.quiet import quiet
from strop.core.system.heap import return_free_memory
from strop.models.files.cast_on_read import is_cast, open_cast
from strop.models.files.layout import Conversion, Layout, faults_of_config
from strop.models.files.weight_files import StoredTensor, check_no_adapter, stored_tensors

logger = logging.getLogger(__name__)

_PLAIN = ("F64", "F32", "F16", "BF16")
"""Formats in which a tensor is its numbers."""
_EIGHT = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
_SCALES = (
    "scale_inv", "_scale", ".scale", ".scales", ".SCB", ".qzeros", ".g_idx", ".absmax",
    "zero_point", ".qweight", ".weight_packed", "_blocks", "_scales",
)  # fmt: skip
"""Ends of names of what goes with weights in few bits."""
_MASKS = ("rotary_emb.inv_freq", "position_ids", ".attn.bias", ".attn.masked_bias", "_cached")
"""Ends of names of numbers that follow from the configuration: no weights, not worth a word."""
_SHOWN = 3


def read_config(folder: Path, *, log_ties: bool = False) -> Any:
    """Return the configuration in a folder, head and embedding tied only if the files tie them.

    Where config.json ties them and the files hold both, with other values, transformers loads
    both. What else reads the configuration would take one for the other.

    Args:
        folder: of the model.
        log_ties: log that they are not tied.
    """
    from transformers import AutoConfig

    with faults_of_config(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _drop_kernels(folder, config)
    if not getattr(config, "tie_word_embeddings", False) or not _holds_head(folder):
        return config
    stored = stored_tensors(folder)
    if _differ(Conversion(_plain(config), stored).layout, stored):
        for part in (config, config.get_text_config()):
            part.tie_word_embeddings = False
        if log_ties:
            logger.warning(
                "the config.json of %s ties the head to the embedding, but its files hold a head "
                "of its own with other values; that one is used, as transformers does",
                folder,
            )
    return config


def _drop_kernels(folder: Path, config: Any) -> None:
    """Take names of code on the hub, `owner/name`, out of a configuration: none is fetched for it."""
    for part in {id(part): part for part in (config, config.get_text_config())}.values():
        for kind in ("_attn_implementation", "_experts_implementation"):
            name = getattr(part, kind, None)
            if isinstance(name, str) and "/" in name:
                setattr(part, kind, None)
                logger.warning(
                    "the config.json of %s asks for code from %s, which is not fetched; PyTorch's is used",
                    folder, name,
                )  # fmt: skip


def read_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in a folder, made by transformers; no code that lies there runs.

    What was taken to read it is given back: 0.30 GB beside 0.07 GB for a vocabulary of 262,144 tokens.

    Raises:
        DataError: a file of it is damaged, or holds what its library does not take.
    """
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoTokenizer

    try:
        with reading(f"the tokenizer in {folder}", "copy its files again"):
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except DataError:  # look for the file at fault
        with faults_of_config(folder):
            AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if (file := folder / "tokenizer.json").is_file():
            with reading(file):
                Tokenizer.from_file(str(file))
        raise
    return_free_memory()
    return tokenizer


def read_generation(folder: Path) -> Any:
    """Return the generation settings of the model in a folder, those of config.json without a file.

    Raises:
        DataError: they are damaged.
    """
    from transformers import GenerationConfig

    file = folder / "generation_config.json"
    old = {} if file.is_file() else {"config_file_name": "config.json", "_from_model_config": True}
    with reading(file, "copy it again, or remove it"):
        return GenerationConfig.from_pretrained(folder, local_files_only=True, **old)


def conversion(folder: Path) -> Conversion:
    """Return transformers' mapping for the model in a folder, whose weights are not read."""
    return Conversion(_plain(read_config(folder)), stored_tensors(folder))


def _plain(config: Any) -> Any:
    """Return a configuration that does not say how weights are stored."""
    plain = copy.deepcopy(config)
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    return plain


def open_folder(folder: Path, config: Any, dtype: Any) -> Any:
    """Return the model in a folder, on the CPU.

    Args:
        folder: of the model, or of its weights in few bits.
        config: what `read_config` returned, with its quantization_config if it has any.
        dtype: of what is not quantised; "auto" as it is stored.

    Raises:
        DataError: tensors are missing, of other shapes, or have no place in the model; integers
            or scales stand in place of weights. All that is wrong is named.
    """
    from transformers import AutoModelForCausalLM

    check_no_adapter(folder)
    options = {"dtype": dtype, "local_files_only": True, "output_loading_info": True}
    stored = stored_tensors(folder)
    plain = getattr(config, "quantization_config", None) is None
    conversion = checked(folder, config, stored) if plain else None
    hint = "get the config.json that belongs to its weights"
    with quiet(), reading(f"the model in {folder}", hint):  # it takes a second, the files are local
        if conversion is not None and dtype != "auto" and is_cast(stored, dtype):
            generation = read_generation(folder)
            model, report = open_cast(folder, conversion.model, stored, generation, **options)
        else:
            model, report = AutoModelForCausalLM.from_pretrained(
                folder, config=config, use_safetensors=True, trust_remote_code=False, **options
            )
    _refuse(folder, [*_missing(sorted(report["missing_keys"])),
                     *_unplaced(sorted(report["unexpected_keys"]), {})])  # fmt: skip
    return model


def checked(folder: Path, config: Any, stored: Mapping[str, StoredTensor]) -> Conversion:
    """Return the mapping of an unquantised model, every tensor of whose files has its place in it.

    Raises:
        DataError: tensors are missing, have no place in the model, or are no weights.
    """
    conversion = Conversion(config, stored)
    layout = conversion.layout
    parts = [name for name in layout.ignored if not name.endswith(_MASKS)]
    if parts:
        logger.warning(
            "%s holds %d tensors of parts that %s leaves out (%s); they are neither trained nor "
            "exported",
            folder, len(parts), type(conversion.model).__name__, _shown(parts),
        )  # fmt: skip
    wrong = [
        *_codes(layout, stored, conversion.state),
        *_shapes(layout, stored, conversion.state),
        *_unplaced(layout.unplaced, stored),
        *_missing(layout.missing),
    ]
    _refuse(folder, wrong)
    return conversion


def _refuse(folder: Path, wrong: list[str]) -> None:
    if wrong:
        raise DataError("; ".join(f"the weights in {folder} {sentence}" for sentence in wrong))


def _missing(names: Collection[str]) -> Iterator[str]:
    if not names:
        return
    yield (
        f"lack {len(names)} tensors that its config.json asks for ({_shown(names)}); they would be "
        "random numbers, so get the whole model"
        + (
            ", or set tie_word_embeddings in config.json if its head is the embedding"
            if [*names] == ["lm_head.weight"]
            else ""
        )
    )


def _unplaced(names: Collection[str], stored: Mapping[str, StoredTensor]) -> Iterator[str]:
    scales = [name for name in names if name.endswith(_SCALES)]
    others = [name for name in names if name not in scales]
    if scales:
        yield (
            f"hold {len(scales)} scales of weights in few bits ({_shown(scales)}), and its "
            "config.json has no quantization_config that says so; without them the weights are "
            "other numbers, so get the unquantised model"
        )
    if others:
        yield (
            f"hold {len(others)} tensors that the model of its config.json has no place for "
            f"({_shown(others)}); get the config.json that belongs to them, or take them out of "
            "the file if they are not of the model"
        )


def _codes(
    layout: Layout, stored: Mapping[str, StoredTensor], state: Mapping[str, torch.Tensor]
) -> Iterator[str]:
    """Yield what is wrong with tensors that are no plain numbers where the model has weights."""
    weights = [name for name, memory in layout.names.items() if state[memory].is_floating_point()]
    weights += [name for group in layout.groups for name in group.files]
    odd = {name: stored[name].code for name in weights if stored[name].code not in _PLAIN}
    for code in dict.fromkeys(odd.values()):
        these = [name for name in odd if odd[name] == code]
        kind = "8-bit floats" if code in _EIGHT else "integers"
        yield (
            f"hold {kind} ({code}) in place of {len(these)} weights ({_shown(these)}), and "
            "its config.json has no quantization_config that says what they stand for; get the "
            "unquantised model"
        )


def _shapes(
    layout: Layout, stored: Mapping[str, StoredTensor], state: Mapping[str, torch.Tensor]
) -> Iterator[str]:
    """Yield what is wrong with tensors that do not have the shape that the configuration gives."""
    odd = {
        name: f"{name} is {list(stored[name].shape)} in place of {list(state[memory].shape)}"
        for name, memory in layout.names.items()
        if stored[name].shape != tuple(state[memory].shape) and stored[name].code in _PLAIN
    }
    if odd:
        yield (
            f"hold {len(odd)} tensors whose shapes do not fit its config.json "
            f"({_shown(odd.values())}); get the config.json that belongs to them"
        )


def _shown(names: Collection[str]) -> str:
    first = ", ".join([*names][:_SHOWN])
    return first + (" and more" if len(names) > _SHOWN else "")


def _holds_head(folder: Path) -> bool:
    return any(name.endswith("lm_head.weight") for name in stored_tensors(folder))


def _differ(layout: Layout, stored: Mapping[str, StoredTensor]) -> bool:
    """Whether the files hold a head and an embedding that are to be tied, and that differ."""
    files = layout.files
    for one, other in layout.tied.items():
        if one in files and other in files:
            a, b = (_read(stored[files[name]], files[name]) for name in (one, other))
            if a.shape != b.shape or not torch.equal(a, b):
                return True
    return False


def _read(stored: StoredTensor, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with reading(stored.path), safe_open(stored.path, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor
