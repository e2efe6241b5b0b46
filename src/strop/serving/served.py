"""Models that can be served: GGUF files, packaged models, and runs through their GGUF exports."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from strop.core.cache import cached_folder
from strop.core.errors import ConfigError
from strop.core.files import expanded, reading
from strop.data.encoding.templates import writes_day
from strop.exporting.certify.certified import check, is_export
from strop.exporting.exporter import export
from strop.exporting.gguf.adapter import FILE
from strop.exporting.gguf.base_file import GgufBase
from strop.models.packaged import PACKAGED, assemble, find_parts
from strop.serving.targets import check_target
from strop.training import Run


@dataclass(frozen=True, slots=True)
class Served:
    """One model that requests can name."""

    name: str
    file: Path
    """GGUF file, or that of its base."""
    adapter: Path | None = None
    """A GGUF adapter over its base; models of one base share the memory of the base."""
    day: date | None = None
    """The day that the chat template writes as today's: that of the run; None for today."""


def find(names: Sequence[str], *, uncertified: bool = False) -> list[Served]:
    """Return what each name stands for; a run that has no GGUF file yet gets one, certified.

    Runs without one that were trained on the same base get adapters over it.

    Args:
        names: run folders, GGUF files or packaged models.
        uncertified: take exports that are not certified, or changed since.

    Raises:
        ConfigError: a name stands for none of these, or two would be called the same.
        DataError: an export is not certified.
        StropError: a run cannot be exported, or a packaged model is not installed.
    """
    exported = {name: at_hand(name, uncertified=uncertified) for name in names}
    fresh = [run for name in names if exported[name] is None and (run := _run(name)) is not None]
    bases = Counter(_base(run) for run in fresh)
    shared = {base for base, count in bases.items() if count > 1}
    models = [exported[name] or _resolved(name, shared, uncertified) for name in names]
    twice = sorted({m.name for m in models if sum(m.name == other.name for other in models) > 1})
    if twice:
        raise ConfigError(f"several models would be called {', '.join(twice)}; rename the folders")
    return models


def at_hand(name: str, *, uncertified: bool = False) -> Served | None:
    """Return what a name has in GGUF already: the file itself, or a run's newest export.

    Args:
        name: a run folder or a GGUF file.
        uncertified: take an export that is not certified, or changed since.

    Raises:
        DataError: the export is not certified; a file that strop did not export needs none.
    """
    path = expanded(name)
    if path.suffix == ".gguf" and path.is_file():
        if not uncertified and is_export(path.parent):
            check(path.parent)
        return Served(path.stem, path)
    if (run := _run(name)) is None:
        return None
    adapter = run.weights().glob("adapter_*")  # not the folder, in which a model card is renewed
    trained = max(file.stat().st_mtime for file in adapter)
    files = [f for f in path.glob("export/gguf-*/*.gguf") if f.stat().st_mtime >= trained]
    newest = max(files, key=lambda f: f.stat().st_mtime, default=None)
    return None if newest is None else _of_run(run, newest, uncertified)


def _of_run(run: Run, file: Path, uncertified: bool) -> Served:
    name = run.path.resolve().name
    served = Served(name, file, day=_day(run))
    if file.name == FILE:
        quant = file.parent.name.removeprefix("gguf-adapter-")
        served = Served(name, GgufBase(run.settings, run.assets(), quant).file(), file, _day(run))
    if not uncertified:
        check(file.parent, None if served.adapter is None else served.file)
    return served


def _day(run: Run) -> date | None:
    """Return the day of a run whose chat template writes it; None for others, which share engines."""
    file = run.assets_folder / "chat_template.jinja"
    if not file.is_file():
        return None
    with reading(file):
        template = file.read_text(encoding="utf-8")
    return run.day if writes_day(template) else None


def _run(name: str) -> Run | None:
    path = expanded(name)
    return Run.open(path) if (path / "run.json").is_file() else None


def _base(run: Run) -> tuple[str, int, str]:
    """Return what two runs have in common whose adapters may share one base."""
    return run.model, run.settings["bits"], run.settings["dtype"]


def _resolved(name: str, shared: set[tuple[str, int, str]], uncertified: bool) -> Served:
    if (run := _run(name)) is not None:
        return _exported(run, "adapter" if _base(run) in shared else "f16", uncertified)
    check_target(name)
    return Served(name, _packaged(name))


def _exported(run: Run, quant: str, uncertified: bool) -> Served:
    (exported,) = export(run, "gguf", quant=quant, certified=not uncertified)
    return _of_run(run, next(exported.path.glob("*.gguf")), uncertified)


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

    return cached_folder(f"{name}-gguf", {"sha256": row.sha256}, write) / file
