"""Where a model of a name is: a folder, a GGUF file, an installed package, the hub. No torch here."""

from pathlib import Path
from typing import Any

from strop.core import env
from strop.core.errors import ConfigError, DataError, spelt
from strop.core.files import expanded, read_json
from strop.core.system.hub import hub_problem
from strop.models.files.weight_files import ADAPTER, check_no_adapter, stored_tensors, weight_files
from strop.models.packaged import PACKAGED, find_parts, nearest

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
_SETTINGS = ("tokenizer_config.json", "generation_config.json")
"""Beside config.json; transformers goes on without the second where it cannot be read."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def check_name(name: str | Path) -> None:
    """Check within a moment that there is a model of this name, before anything heavy is imported.

    A name on the hub costs the seconds in which the hub answers, where no copy is in its cache.

    Raises:
        ConfigError: nothing of that name is there.
        DataError: a file of the model is missing.
        MissingPackageError: a packaged model whose package is not installed.
    """
    path = expanded(name)
    if path.is_dir():
        _check_files(path)
    elif path.is_file():
        check_gguf_name(path)
    elif str(name) in PACKAGED:
        if not (env.cache_folder() / "models" / str(name)).is_dir():
            find_parts(str(name), PACKAGED[str(name)])
    elif _in_hub_cache(str(name)) is None and (problem := hub_problem()):
        raise ConfigError(_not_on_hub(str(name), problem))


def check_gguf_name(file: Path) -> None:
    """Raise ConfigError if a file that is given as a model is no GGUF file by its name."""
    if file.suffix != ".gguf":
        raise ConfigError(f"{file} is a file but not a .gguf file; name a model folder instead")


def whole_folder(folder: Path) -> Path:
    """Return `folder` if everything a model needs lies in it, whole.

    Raises:
        DataError: a file is missing, cut short or unreadable.
    """
    _check_files(folder)
    stored_tensors(folder)
    return folder


def _check_files(folder: Path) -> None:
    """Raise DataError if a file that a model needs is missing; tensors are not looked at."""
    model_config(folder)
    for name in _SETTINGS:
        if (folder / name).is_file():
            read_json(folder / name)
    check_no_adapter(folder)
    weight_files(folder)
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise DataError(
            f"{folder} has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}); copy the "
            "tokenizer's files into it, or save them with tokenizer.save_pretrained"
        )


def model_config(folder: Path) -> dict[str, Any]:
    """Return what config.json of a model folder holds.

    Raises:
        DataError: the folder has none; the text says what it is instead.
    """
    file = folder / "config.json"
    if not file.is_file():
        hint = "copy it from where the model came from"
        if (folder / "run.json").is_file():
            raise DataError(_merging(folder))
        if (folder.parent / "run.json").is_file() and (folder / ADAPTER).is_file():
            raise DataError(_merging(folder.parent))
        if (folder / ADAPTER).is_file():
            hint = "it holds a PEFT adapter; name the base model, or the run that made the adapter"
        elif ggufs := sorted(folder.glob("*.gguf")):
            hint = f"it holds a GGUF file; name the file itself: {ggufs[0]}"
        raise DataError(f"{folder} is not a model folder, it has no config.json; {hint}")
    return read_json(file)


def _merging(run: Path) -> str:
    """Return how the model of a run is trained further."""
    merged = run / "export" / "merged"
    if (merged / "config.json").is_file():
        return f"{run} is a run, not a model; its merged model is {merged}: {spelt('model', str(merged))}"
    return (
        f"{run} is a run, not a model; merge its adapter first: strop export {run} --to merged, "
        f"then give {spelt('model', str(merged))}"
    )


def from_hub(name: str) -> Path:
    """Return the folder of a model of the hub, from its cache or fetched.

    Raises:
        ConfigError: it is neither there nor can be fetched.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if (cached := _in_hub_cache(name)) is not None:
        return cached
    if problem := hub_problem():
        raise ConfigError(_not_on_hub(name, problem))
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError) as e:
        refusal = str(e).strip().splitlines()[0]
        raise ConfigError(_not_on_hub(name, f"does not give it ({refusal})")) from e


def _in_hub_cache(name: str) -> Path | None:
    """Return the folder of a model in the hub's cache, or None.

    Raises:
        ConfigError: the name cannot be one on the hub.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith(".gguf")
    if looks_local or "\\" in name:
        raise ConfigError(f"there is no folder or file {name}; {_known(name)}")
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                name, allow_patterns=_HUB_FILES, local_files_only=True
            )
        )
    except HFValidationError as e:
        raise ConfigError(f"{name!r} is no folder, file or hub id ({e}); {_known(name)}") from e
    except LocalEntryNotFoundError:
        return None
    whole = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return folder if whole else None


def _known(name: str) -> str:
    near = nearest(name)
    packaged = f"ackaged models: {', '.join(PACKAGED)}"
    return f"did you mean {near}? P{packaged}" if near else f"p{packaged}"


def _not_on_hub(name: str, problem: str) -> str:
    from huggingface_hub import constants

    return (
        f"no model {name!r}: no folder or file of that name, not a packaged model, not in the "
        f"local Hugging Face cache, and the hub at {constants.ENDPOINT} {problem}; {_known(name)}"
    )
