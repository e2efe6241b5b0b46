"""Models that can be named here: packaged, in the caches, in folders; found by their files, unread."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.core import env
from strop.core.errors import MissingPackageError, StropError
from strop.core.files import read_json
from strop.data.encoding.templates import family_of_marks
from strop.models.files.places import whole_folder
from strop.models.packaged import PACKAGED, find_parts, license_of

DEPTH = 3
"""Folders below one that is searched."""
_SKIPPED = ("node_modules", "site-packages", "__pycache__")
_CARRIED = "its own"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that can be given as `--model`."""

    name: str
    """What to give: a packaged name, a folder, a file, an id on the hub."""
    source: str
    """packaged, cache, hub cache or folder."""
    path: Path | None = None
    """Where it lies; None for one whose package is absent, or that was not converted yet."""
    config: dict[str, Any] = field(default_factory=dict)
    license: str | None = None
    template: str | None = None
    """`its own`, the family whose template stands in, or None."""
    install: str | None = None
    """The command that brings it, where it is absent."""
    obstacle: str | None = None
    """Why it cannot be used as it is."""

    @property
    def nbytes(self) -> int:
        """Bytes on the disk."""
        if self.path is None:
            return 0
        files = [self.path] if self.path.is_file() else self.path.glob("*.safetensors")
        return sum(file.stat().st_size for file in files if file.is_file())


def list_models(folders: Iterable[Path]) -> Iterator[ListedModel]:
    """Yield each model once: packaged ones, those in strop's and the hub's cache, those in folders.

    Args:
        folders: searched for model folders and GGUF files, a few folders deep.
    """
    seen = set()
    for name in PACKAGED:
        model = _packaged(name)
        seen.add(model.path)
        yield model
    places = [("cache", path) for path in sorted((env.cache_folder() / "models").glob("gguf-*"))]
    places += [("hub cache", path) for path in _hub_folders()]
    places += [("folder", path) for folder in folders for path in sorted(_below(folder, DEPTH))]
    for source, path in places:
        resolved = path.resolve()
        if resolved not in seen:
            seen.add(resolved)
            yield ListedModel(str(path), source, path) if path.is_file() else _folder(path, source)


def _packaged(name: str) -> ListedModel:
    row, folder = PACKAGED[name], (env.cache_folder() / "models" / name).resolve()
    if (folder / "config.json").is_file():
        config, template = _config(folder), _template(folder)
        return ListedModel(name, "packaged", folder, config, row.license, template)
    try:
        find_parts(name, row)
    except MissingPackageError:
        return ListedModel(name, "packaged", license=row.license, install=row.command)
    return ListedModel(name, "packaged", license=row.license)


def _folder(folder: Path, source: str) -> ListedModel:
    name = _hub_id(folder) if source == "hub cache" else str(folder)
    try:
        whole_folder(folder)
    except StropError as e:
        return ListedModel(name, source, folder, obstacle=str(e))
    license = license_of(str(folder))
    return ListedModel(name, source, folder, _config(folder), license, _template(folder))


def _config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, dict) else config


def _template(folder: Path) -> str | None:
    """Return where the chat template of a folder comes from."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return _CARRIED
    settings: dict[str, Any] = {}
    if (file := folder / "tokenizer_config.json").is_file():
        settings = read_json(file)
    if settings.get("chat_template"):
        return _CARRIED
    marks: set[str] = set()
    if (file := folder / "tokenizer.json").is_file():
        marks = {str(token.get("content")) for token in read_json(file).get("added_tokens") or ()}
    return family_of_marks(marks, folder.name)


def _hub_folders() -> Iterator[Path]:
    """Yield the newest snapshot of each model in the hub's cache."""
    from huggingface_hub import constants

    for repo in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        snapshots = [p for p in (repo / "snapshots").glob("*") if (p / "config.json").is_file()]
        if snapshots:
            yield max(snapshots, key=lambda path: path.stat().st_mtime)


def _hub_id(snapshot: Path) -> str:
    return snapshot.parent.parent.name.removeprefix("models--").replace("--", "/", 1)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield model folders and GGUF files in a folder and so many below it; none inside a model."""
    try:
        inside = sorted(folder.iterdir())
    except OSError:  # not there, or not to be read
        return
    if (folder / "config.json").is_file() and any(p.suffix == ".safetensors" for p in inside):
        yield folder
        return
    for path in inside:
        if path.is_file() and path.suffix == ".gguf":
            yield path
        elif path.is_dir() and depth and path.name[0] != "." and path.name not in _SKIPPED:
            yield from _below(path, depth - 1)
