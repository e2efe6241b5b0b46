"""Find a model by whatever name the user has for it, and load it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from strop.core import env
from strop.core.errors import UnsupportedError
from strop.core.files import expanded
from strop.core.progress import Progress, silent
from strop.core.system.heap import return_free_memory
from strop.models import gguf
from strop.models.dtype import default_device
from strop.models.files.opening import open_folder, read_tokenizer
from strop.models.files.places import check_gguf_name, from_hub, model_config, whole_folder
from strop.models.packaged import PACKAGED
from strop.models.precision import store_narrow
from strop.models.special_tokens import settle

logger = logging.getLogger(__name__)


def load(
    name: str | Path,
    bits: int | None = None,
    *,
    dtype: torch.dtype | None = None,
    progress: Progress = silent,
) -> tuple[Any, Any]:
    """Load a model for training or generation, with its tokenizer.

    bits=32 holds the weights in float32 and computes in it. bits=16 holds linear weights and
    embeddings in 16 bits; where products run in float32, they are widened for each, so that
    nothing of a 16-bit checkpoint is lost. bits=4 stores linear weights in 4 bits,
    and the rest as bits=16 does: a folder that strop or bitsandbytes quantised is opened as it is,
    any other is quantised on first use and kept in the cache.

    Weights stay in their files until they are read (memory-mapped) where these have the dtype; from
    files in another they are read tensor by tensor.

    Args:
        name: a packaged model's name, a folder, a GGUF file, or a hub id.
        bits: 4, 16 or 32; None takes 4 for a folder that is quantised, else 16.
        dtype: to compute in, below 32 bits; None takes the one in which a step of the model is faster.
        progress: called while weights are quantised.

    Returns:
        The transformers model in eval mode, on CUDA where there is one; and its tokenizer, whose
        pad token differs from the end token if the vocabulary allows.

    Raises:
        ConfigError: nothing of that name is found, or `bits` and `dtype` do not fit.
        DataError: a file of the model is missing, cut short or unreadable.
        UnsupportedError: the kind of model, or of quantisation, is not served.
        MissingPackageError: a packaged model whose package is not installed.
    """
    env.keep_few_products()
    folder = resolve(name)
    tokenizer = read_tokenizer(folder)
    model = opened(folder, bits, dtype, progress)
    settle(model, tokenizer)
    return_free_memory()  # of dictionaries of the vocabulary
    return model.to(default_device()).eval(), tokenizer


def load_tokenizer(name: str | Path) -> Any:
    """Return the tokenizer of a model; its weights are not read.

    Args:
        name: what `load` takes.

    Raises:
        StropError: the model cannot be found; the text says what was looked for where.
    """
    return read_tokenizer(resolve(name))


def opened(
    folder: Path,
    bits: int | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress = silent,
) -> Any:
    """Return the model in a folder without its tokenizer, on the CPU; see `load`."""
    from strop.models.weight_source import choose  # with it come all of transformers' quantisers

    weights = choose(folder, bits, dtype, progress)
    model = open_folder(weights.folder, weights.config, weights.dtype)
    if weights.narrow and store_narrow(model):
        logger.info("%s has wider weights than 16 bits; they are rounded to bfloat16", folder)
    model.name_or_path = str(folder)
    return model


def resolve(name: str | Path) -> Path:
    """Return a local folder with `config.json`, safetensors and tokenizer for `name`.

    Packaged models and GGUF files are converted on first use; a hub id is taken from the local
    Hugging Face cache, else from the hub if it answers within seconds.

    Raises:
        ConfigError: nothing of that name is found; the text says what was looked for where.
        DataError: a file of the model is missing, cut short or unreadable.
        UnsupportedError: a kind of model that is not known.
        MissingPackageError: a packaged model whose package is not installed.
    """
    return _resolve(name, _checked)


def located(name: str | Path) -> Path:
    """Return what `resolve` does, for a model of a known kind; transformers is not imported."""
    return _resolve(name, whole_folder)


def _resolve(name: str | Path, checked: Callable[[Path], Path]) -> Path:
    text, path = str(name), expanded(name)
    if path.is_dir():
        return checked(path)
    if path.is_file():
        check_gguf_name(path)
        return gguf.file_folder(path)
    if text in PACKAGED:
        return gguf.packaged_folder(text)
    return checked(from_hub(text))


def _checked(folder: Path) -> Path:
    """Return `folder` if everything a model needs lies in it, whole, and transformers knows its kind.

    Raises:
        DataError: a file is missing, cut short or unreadable.
        UnsupportedError: the configuration is of a kind that is not known.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = model_config(folder)
    kind = config.get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        code = " (it brings code of its code, which is never run)" if "auto_map" in config else ""
        raise UnsupportedError(
            f"{folder / 'config.json'} says model_type {kind!r}{code}, which is not a language "
            "model that the installed transformers knows; upgrade transformers or use another one"
        )
    return whole_folder(folder)
