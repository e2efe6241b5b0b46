"""Turn a GGUF file into a safetensors folder, once, in the cache."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from strop.core.cache import cached_folder
from strop.core.errors import DataError, UnsupportedError
from strop.core.files import reading, scratch_folder
from strop.core.quiet import no_stderr, quiet
from strop.models.packaged import PACKAGED, assemble, digest
from strop.models.special_tokens import settle

_RULES = 2
"""Raise it when a conversion would come out different, and old caches are made anew."""

_AGAIN = "it may be cut short; fetch it again"
_DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "codeshell")
"""Byte-level vocabularies whose merges never cross a digit; transformers forgets that."""
_PLAIN = ("gpt-2", "gpt2", "phi-2", "olmo", "mpt", "jais", "roberta-bpe", "gigachat")
"""Byte-level vocabularies that are split by GPT-2's rule and nothing more."""


def packaged_folder(name: str) -> Path:
    """Return the safetensors folder of a packaged model, converting it on first use.

    Raises:
        MissingPackageError: its packages are absent; the text has the command.
        DataError: the packages carry other bytes than the pinned ones.
    """
    row = PACKAGED[name]

    def write(folder: Path) -> None:
        with scratch_folder("gguf") as scratch:
            convert(assemble(name, row, scratch / f"{name}.gguf"), folder, name=name)

    return _cached(name, row.sha256, write)


def file_folder(file: Path) -> Path:
    """Return the safetensors folder of a GGUF file, converting it on first use.

    Raises:
        DataError: the file is not GGUF, or is cut short.
        UnsupportedError: its architecture or tokenizer is not known.
    """
    with reading(file), file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise DataError(f"{file} is not a GGUF file: it does not begin with the bytes GGUF")
    sha256 = digest([file])
    name = f"gguf-{sha256[:16]}"
    return _cached(name, sha256, lambda folder: convert(file, folder, name=name))


def _cached(name: str, sha256: str, write: Callable[[Path], None]) -> Path:
    return cached_folder(name, {"sha256": sha256, "rules": _RULES}, write)


def convert(file: Path, folder: Path, *, name: str) -> None:
    """Write the model and tokenizer of a GGUF file as a safetensors folder.

    Weights are dequantised to float32, which holds every value of the file exactly. The folder says
    which tokens end an answer, the chat template's among them, to programs that open it without strop.
    A file without a chat template gets that of its family.

    Args:
        file: a GGUF file.
        folder: made by this call.
        name: what the model is called in its configuration.

    Raises:
        DataError: the file is cut short, or lacks tensors.
        UnsupportedError: its architecture or tokenizer is not known.
    """
    logging.getLogger(__name__).info("converting %s to safetensors, once", name)
    tokenizer = _tokenizer(file)
    model = _model(file)
    model.config.name_or_path = name
    settle(model, tokenizer)
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _model(file: Path) -> Any:
    from transformers import AutoModelForCausalLM

    with reading(file, _AGAIN), quiet(), no_stderr():
        try:
            read, report = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
            )
        except ValueError as e:
            raise UnsupportedError(f"{file} cannot be converted: {e}") from e
    if report["missing_keys"]:
        raise DataError(f"{file} lacks tensors of its model: {sorted(report['missing_keys'])}")
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are plain now, and saving wants to know it
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = read.generation_config
    return model


def _tokenizer(file: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind, splitting = _splitting_rule(file)
    with reading(file, _AGAIN):
        try:
            read = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except ValueError as e:
            raise UnsupportedError(f"the tokenizer of {file} cannot be converted: {e}") from e
    backend = read.backend_tokenizer
    if kind == "gpt2":
        _split_as_trained(backend, splitting, file)
    # The plain class keeps the backend as it is; model-specific ones build their own when loaded.
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=read.chat_template,
        clean_up_tokenization_spaces=False,
        **read.special_tokens_map,
    )


def _splitting_rule(file: Path) -> tuple[str, str]:
    """Return the kind of the vocabulary and the name of the rule that splits text into words."""
    import gguf

    with reading(file, _AGAIN):
        reader = gguf.GGUFReader(file)
        fields = (reader.get_field(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
        kind, rule = (field.contents() if field else "" for field in fields)
    return str(kind), str(rule)


def _split_as_trained(backend: Any, rule: str, file: Path) -> None:
    """Set the word splitter where transformers leaves GPT-2's for every vocabulary."""
    from tokenizers import normalizers, pre_tokenizers

    if rule == "qwen2":
        backend.normalizer = normalizers.NFC()  # as the original tokenizer has it
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        return
    if rule in _DIGITS_APART:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif rule not in _PLAIN:
        raise UnsupportedError(
            f"{file} splits text by the rule {rule!r}, which is not known here, so its text would "
            "be cut into wrong tokens; use the model's safetensors folder instead"
        )
