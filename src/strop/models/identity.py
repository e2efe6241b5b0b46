"""What tells one base model, and one tokenizer, from another: digests that a run keeps."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strop.core.cache import key_of
from strop.core.digest import file_digest
from strop.core.errors import DataError
from strop.core.files import read_json
from strop.models.files.weight_files import weight_files

_UNREAD = {"transformers_version", "_name_or_path", "use_cache"}
"""Entries of config.json that change nothing of what a model computes."""
SHOWN = 12
"""Digits of a digest that sentences show."""


def base_identity(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the weights of the model in `folder`, and of its configuration.

    In place of a configuration that was written from a GGUF file, as transformers writes it at the
    time, the file's own digest counts.
    """
    weights = weights_identity(folder)
    if source := (key_of(folder) or {}).get("sha256"):
        return {"weights": weights, "the GGUF file": source}
    config = read_json(folder / "config.json")
    config = {name: value for name, value in config.items() if name not in _UNREAD}
    text = json.dumps(config, sort_keys=True)
    return {"weights": weights, "config.json": hashlib.sha256(text.encode()).hexdigest()}


def weights_identity(folder: Path) -> str:
    """Return the SHA-256 of the names and digests of the files of weights in `folder`."""
    files = hashlib.sha256()
    for file in weight_files(folder):
        files.update(f"{file.name} {file_digest(file)}\n".encode())
    return files.hexdigest()


def tokenizer_identity(tokenizer: Any) -> str:
    """Return the SHA-256 of everything that a tokenizer with a `tokenizers` backend does.

    Its backend, chat templates, named tokens and sides count; a truncation or padding that is
    switched on does not, as each call of a tokenizer switches them anew.

    Raises:
        DataError: it has no such backend.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError(
            f"the tokenizer given, a {type(tokenizer).__name__}, gives no character offsets, which "
            "exact supervision needs; load it with use_fast=True"
        )
    if backend.truncation is not None or backend.padding is not None:
        backend = type(backend).from_str(backend.to_str())
        backend.no_truncation()
        backend.no_padding()
    templates = tokenizer.chat_template
    if isinstance(templates, dict) and list(templates) == ["default"]:
        templates = templates["default"]
    facts = {
        "templates": templates,
        "tokens": dict(tokenizer.special_tokens_map),
        "special": sorted(tokenizer.all_special_tokens),
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
    }
    digest = hashlib.sha256(backend.to_str().encode())
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def check_same_base(run: Path, name: str, folder: Path, recorded: Mapping[str, str]) -> None:
    """Look whether the model in `folder` is still the one that a run was trained on.

    Args:
        run: the folder of the run.
        name: of the model, as the run has it.
        folder: where it lies now.
        recorded: what `base_identity` returned when training began; nothing for old runs.

    Raises:
        DataError: it is another one.
    """
    if not recorded:
        return
    now = base_identity(folder)
    changed = [
        f"{what} had SHA-256 {recorded[what][:SHOWN]} and now {now[what][:SHOWN]}"
        for what in recorded
        if recorded[what] != now.get(what)
    ]
    if changed:
        raise DataError(
            f"{folder} holds another model than the run {run} was trained on under the name {name}: "
            f"{'; '.join(changed)}; put the model of that time back, or train a new run on this one"
        )


def check_same_tokenizer(run: Path, folder: Path, tokenizer: Any, recorded: str | None) -> None:
    """Look whether the tokenizer of a model's folder is the one that a run was trained with.

    Raises:
        DataError: it is another one.
    """
    if recorded is not None and (now := tokenizer_identity(tokenizer)) != recorded:
        raise DataError(
            f"the run {run} has lost the tokenizer it was trained with (SHA-256 "
            f"{recorded[:SHOWN]}), and that in {folder} is another one ({now[:SHOWN]}); put the "
            f"folder model_assets of the run back, or train a new run"
        )
