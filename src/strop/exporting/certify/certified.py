"""Checks that an exported folder is certified, and unchanged since."""

import hashlib
from pathlib import Path

from strop.core.digest import file_digest
from strop.core.errors import DataError
from strop.exporting.certify.certificate import FILE, Certificate

_READ = {".json", ".jinja", ".safetensors", ".gguf", ".bin", ".model", ".py"}
"""Suffixes of files that a loader would read although no certificate names them."""


def adapter_digest(adapter: Path) -> str:
    """Return the SHA-256 of a trained adapter: of its weights and of its settings."""
    files = ("adapter_model.safetensors", "adapter_config.json")
    return hashlib.sha256(
        "".join(file_digest(adapter / name) for name in files).encode()
    ).hexdigest()


def is_export(folder: Path) -> bool:
    """Return whether a folder is an export: has a certificate, or lies among a run's exports."""
    return (folder / FILE).is_file() or (
        folder.is_dir() and folder.parent.name == "export" and _run_of(folder) is not None
    )


def obstacle(folder: Path, base: Path | None = None) -> str | None:
    """Return why an exported folder must not be used as the trained model, or None.

    Args:
        folder: of one export.
        base: the file of its adapter's base, where that lies elsewhere.
    """
    if not (folder / FILE).is_file():
        return f"{folder} has no {FILE}, so nothing says how far it agrees with the trained model"
    try:
        certificate = Certificate.open(folder)
    except DataError as e:
        return str(e)
    if not certificate.passed:
        return certificate.sentence
    if changed := certificate.changed_files(folder):
        more = f" ({len(changed)} such files)" if len(changed) > 1 else ""
        return f"{changed[0]} was changed after it was certified{more}"
    if added := sorted(_files(folder) - certificate.files.keys()):
        return f"{added[0]} was added after it was certified"
    if base is not None and file_digest(base) != certificate.over:
        return f"{base} is not the file of the base that its adapter was certified over"
    run = _run_of(folder)
    if run is not None and certificate.trained not in ("", adapter_digest(run)):
        return f"{folder} was made of other weights than those in {run}"
    return None


def check(folder: Path, base: Path | None = None) -> None:
    """Refuse an export that is not certified, or changed since.

    Raises:
        DataError: the text says why, and the ways out.
    """
    if (why := obstacle(folder, base)) is not None:
        raise DataError(
            f"{why}; export it again with strop export, or take it as it is with --uncertified"
        )


def _files(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix in _READ)
    return {str(path) for path in paths if str(path) != FILE}


def _run_of(folder: Path) -> Path | None:
    """Return the adapter of the run in whose folder an export lies."""
    from strop.training import Run

    run = folder.absolute().parent.parent
    if folder.absolute().parent.name != "export" or not (run / "run.json").is_file():
        return None
    return Run.open(run).weights()
