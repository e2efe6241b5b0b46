"""What can be served: a GGUF file, a packaged model, or a run in the form of its GGUF export."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strop.core.errors import ConfigError, DataError
from strop.models.made_once import made_once
from strop.models.packaged import PACKAGED, assemble, find_parts, nearest
from strop.training import Run


@dataclass(frozen=True, slots=True)
class Served:
    """One model that requests can name."""

    name: str
    file: Path
    """Its GGUF file."""


def find(names: Sequence[str]) -> list[Served]:
    """Return what each name stands for; a run that has no GGUF file yet gets one.

    Args:
        names: run folders, GGUF files or packaged models.

    Raises:
        ConfigError: a name stands for none of these, or two would be called the same.
        StropError: a run cannot be exported, or a packaged model is not installed.
    """
    made = [_served(name) for name in names]
    twice = sorted({m.name for m in made if sum(m.name == other.name for other in made) > 1})
    if twice:
        raise ConfigError(f"several models would be called {', '.join(twice)}; rename the folders")
    return made


def gguf_of(name: str) -> Path | None:
    """Return the GGUF file a name has at hand: itself, or a run's newest export; else None."""
    path = Path(name).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return path
    if not (path / "run.json").is_file():
        return None
    run = Run.open(path)
    trained = run.weights().stat().st_mtime
    files = [f for f in path.glob("export/gguf-*/*.gguf") if f.stat().st_mtime >= trained]
    return max(files, key=lambda f: f.stat().st_mtime, default=None)


def _served(name: str) -> Served:
    path = Path(name).expanduser()
    if file := gguf_of(name):
        return Served(path.stem if path.is_file() else path.resolve().name, file)
    if (path / "run.json").is_file():
        return Served(path.resolve().name, _exported(Run.open(path)))
    if name in PACKAGED:
        return Served(name, _packaged(name))
    near = nearest(name)
    hint = f"; did you mean {near}?" if near else ""
    raise ConfigError(
        f"{name} is no run folder, no .gguf file and no packaged model "
        f"({', '.join(PACKAGED)}){hint}; export another model's run with strop export --to gguf"
    )


def _exported(run: Run) -> Path:
    from strop.export.exporting import export

    (made,) = export(run, "gguf", quant="f16", certified=False)
    file = next(made.path.glob("*.gguf"), None)
    if file is None:
        raise DataError(f"{made.path} holds no GGUF file after the export")
    return file


def _packaged(name: str) -> Path:
    """Return the GGUF file of a packaged model; parts are joined once, in the cache."""
    row = PACKAGED[name]
    parts = find_parts(name, row)
    if len(parts) == 1:
        return parts[0]
    file = f"{name}.gguf"

    def write(folder: Path) -> None:
        folder.mkdir()
        assemble(name, row, folder / file)

    return made_once(f"{name}-gguf", {"sha256": row.sha256}, write) / file
