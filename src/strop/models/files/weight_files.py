"""The safetensors files that hold a model's weights: those that transformers loads, none beside them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from strop.core.errors import DataError
from strop.core.files import read_json, reading

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
_POINTER = b"version https://git-lfs"
_PICKLES = ("*.bin", "*.pt", "*.pth")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies, and its number format."""

    path: Path
    shape: tuple[int, ...]
    code: str
    """Name of the format in a safetensors header: F32, BF16, U8, ..."""


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers loads the weights of the model in `folder` from.

    These are, as in transformers 5.23: the file or index that `transformers_weights` in config.json
    names, else model.safetensors, else the files that model.safetensors.index.json names.

    Raises:
        DataError: there are none, one of them is missing, or the index is unreadable.
    """
    named = _explicit(folder)
    index = folder / INDEX
    if named is not None and not named.endswith(".index.json"):
        return _all_there(folder, [named], f"the transformers_weights of {folder / 'config.json'}")
    if named is not None:
        index = folder / named
        if not index.is_file():
            raise DataError(f"{folder} lacks {named}, which its config.json names; copy it again")
    elif (folder / SINGLE).is_file():
        if index.is_file():  # an index without its files: half of another version lies here
            _all_there(folder, _names_of(index), index.name)
        return [folder / SINGLE]
    if index.is_file():
        files = _all_there(folder, _names_of(index), index.name)
        _check_metadata(index)
        return files
    raise DataError(_without_weights(folder))


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return every tensor of the files that `weight_files` names, in their order.

    Raises:
        DataError: a file is missing, cut short, unreadable, or a pointer of Git LFS; each is named.
    """
    tensors: dict[str, StoredTensor] = {}
    wrong = []
    for path in weight_files(folder):
        try:
            tensors.update(_header(path))
        except DataError as e:
            wrong.append(str(e))
    if wrong:
        raise DataError("\n  ".join(wrong))
    return tensors


def check_no_adapter(folder: Path) -> None:
    """Refuse an adapter that lies among the files of a model: transformers loads it unasked.

    Raises:
        DataError: there is one.
    """
    if (folder / ADAPTER).is_file() and (folder / "config.json").is_file():
        raise DataError(
            f"{folder} holds a model and also {ADAPTER}, an adapter that transformers would load "
            f"into it unasked; move {ADAPTER} and the adapter's weights into a folder of their "
            "own to use the model without it, or merge the adapter into the model first"
        )


def _explicit(folder: Path) -> str | None:
    file = folder / "config.json"
    if not file.is_file():
        return None
    named = read_json(file).get("transformers_weights")
    if named is None:
        return None
    if not isinstance(named, str) or not named.endswith(
        (".safetensors", ".safetensors.index.json")
    ):
        raise DataError(f"{file} says transformers_weights {named!r}, which is no safetensors file")
    return named


def _names_of(index: Path) -> list[str]:
    """Return the files that an index names, in the order in which transformers reads them."""
    _check_pointer(index)
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise DataError(f"{index} has no weight_map that names the model's files; copy it again")
    if wrong := [name for name in places.values() if not isinstance(name, str)]:
        raise DataError(f"{index} names {wrong[0]!r} as a file; copy it again")
    return sorted(set(places.values()))


def _check_metadata(index: Path) -> None:
    if not isinstance(read_json(index).get("metadata"), dict):
        raise DataError(
            f'{index} has no metadata, without which transformers does not open it; add "metadata": '
            "{} beside weight_map"
        )


def _all_there(folder: Path, names: list[str], source: str) -> list[Path]:
    if outside := [name for name in names if not _within(folder, name)]:
        raise DataError(f"{source} names {outside[0]}, which lies outside of {folder}")
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise DataError(
            f"{folder} lacks {', '.join(absent)}, which {source} names; copy what is missing, or "
            f"delete {source} if it belongs to another model"
            if source == INDEX and (folder / SINGLE).is_file()
            else f"{folder} lacks {', '.join(absent)}, which {source} names; copy what is missing"
        )
    return [folder / name for name in names]


def _within(folder: Path, name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _without_weights(folder: Path) -> str:
    """Return why a folder has no weights that transformers would load."""
    if broken := [path for path in sorted(folder.glob("*.safetensors")) if not path.exists()]:
        return f"{broken[0]} is a link to {broken[0].readlink()}, which is not there; copy the file itself"
    names = sorted(path.name for path in folder.glob("*.safetensors") if path.is_file())
    if shards := [name for name in names if _SHARD.fullmatch(name)]:
        return (
            f"{folder} has {len(shards)} shards of a model ({shards[0]}) but no {INDEX}, which "
            "says what lies in them; copy it too"
        )
    if names:
        return (
            f"{folder} has neither {SINGLE} nor {INDEX}; {', '.join(names[:3])} beside them are "
            f"not what transformers loads. Copy the model's own files, or rename {names[0]} to "
            f"{SINGLE} if it is the model in transformers' names"
        )
    pickled = sorted(path.name for end in _PICKLES for path in folder.glob(end))
    hint = "copy the model's .safetensors files into it"
    if pickled:
        hint = f"{pickled[0]} may run code when read and is not opened; save it as safetensors"
    return f"{folder} has no weights, that is no .safetensors file; {hint}"


def _check_pointer(file: Path) -> None:
    with file.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise DataError(
                f"{file} ({file.stat().st_size:,} bytes) is a pointer of Git LFS and not the file "
                "itself; run git lfs pull where it was cloned, or copy it again"
            )


def _header(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    from safetensors import safe_open

    with reading(file):
        _check_pointer(file)
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no dict
                part = tensors.get_slice(name)
                yield name, StoredTensor(file, tuple(part.get_shape()), part.get_dtype())
