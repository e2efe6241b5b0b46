"""What can be served: a GGUF file, a packaged model, or a run in the form of its GGUF export."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strop.core.errors import ConfigError
from strop.export.exporting import export
from strop.export.gguf_adapter import FILE
from strop.export.gguf_base import GgufBase
from strop.models.made_once import made_once
from strop.models.packaged import PACKAGED, assemble, find_parts, nearest
from strop.training import Run


@dataclass(frozen=True, slots=True)
class Served:
    """One model that requests can name."""

    name: str
    file: Path
    """Its GGUF file, or that of its base."""
    adapter: Path | None = None
    """A GGUF adapter over its base; models of one base share the memory of the base."""


def find(names: Sequence[str]) -> list[Served]:
    """Return what each name stands for; a run that has no GGUF file yet gets one.

    Runs without one that were trained on the same base get adapters over it.

    Args:
        names: run folders, GGUF files or packaged models.

    Raises:
        ConfigError: a name stands for none of these, or two would be called the same.
        StropError: a run cannot be exported, or a packaged model is not installed.
    """
    there = {name: at_hand(name) for name in names}
    fresh = [run for name in names if there[name] is None and (run := _run(name)) is not None]
    bases = Counter((run.settings["model"], run.settings["bits"]) for run in fresh)
    shared = {base for base, count in bases.items() if count > 1}
    made = [there[name] or _made(name, shared) for name in names]
    twice = sorted({m.name for m in made if sum(m.name == other.name for other in made) > 1})
    if twice:
        raise ConfigError(f"several models would be called {', '.join(twice)}; rename the folders")
    return made


def at_hand(name: str) -> Served | None:
    """Return what a name has in GGUF already: the file itself, or a run's newest export."""
    path = Path(name).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return Served(path.stem, path)
    if (run := _run(name)) is None:
        return None
    trained = run.weights().stat().st_mtime
    files = [f for f in path.glob("export/gguf-*/*.gguf") if f.stat().st_mtime >= trained]
    newest = max(files, key=lambda f: f.stat().st_mtime, default=None)
    return None if newest is None else _of_run(run, newest)


def _of_run(run: Run, file: Path) -> Served:
    name = run.path.resolve().name
    if file.name != FILE:
        return Served(name, file)
    quant = file.parent.name.removeprefix("gguf-adapter-")
    base = GgufBase(run.settings, run.frame(), quant)
    return Served(name, base.file(), file)


def _run(name: str) -> Run | None:
    path = Path(name).expanduser()
    return Run.open(path) if (path / "run.json").is_file() else None


def _made(name: str, shared: set[tuple[str, int]]) -> Served:
    if (run := _run(name)) is not None:
        alone = (run.settings["model"], run.settings["bits"]) in shared
        return _exported(run, "adapter" if alone else "f16")
    if name in PACKAGED:
        return Served(name, _packaged(name))
    near = nearest(name)
    hint = f"; did you mean {near}?" if near else ""
    raise ConfigError(
        f"{name} is no run folder, no .gguf file and no packaged model "
        f"({', '.join(PACKAGED)}){hint}; export another model's run with strop export --to gguf"
    )


def _exported(run: Run, quant: str) -> Served:
    (made,) = export(run, "gguf", quant=quant, certified=False)
    return _of_run(run, next(made.path.glob("*.gguf")))


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
