"""`strop export`: writes a run for other programs and shows each certificate's verdict."""

from typing import Any

from rich.console import Console

from strop.cli.progress import bars, shown_in
from strop.core.disk import spoken_size
from strop.exporting.exporter import Exported, export


def write(run: str, targets: list[str], *, quiet: bool, **settings: Any) -> dict[str, Any]:
    """Export and return plain results: what lies where, and whether it is certified.

    Raises:
        StropError: the run cannot be exported so.
    """
    with bars(quiet) as display:
        made = export(run, *targets, progress=shown_in(display), **settings)
    return {
        "run": run,
        "certified": all(e.certificate.passed for e in made if e.certificate),
        "exports": [_plain(e) for e in made],
    }


def _plain(exported: Exported) -> dict[str, Any]:
    certificate = exported.certificate
    return {
        "target": exported.target,
        "format": exported.format,
        "path": str(exported.path),
        "bytes": exported.nbytes,
        "certificate": certificate.plain() if certificate else None,
    }


def show(result: dict[str, Any]) -> None:
    """Print where each export lies and what its certificate says."""
    console = Console()
    for found in result["exports"]:
        size = spoken_size(found["bytes"])
        console.print(f"{found['path']}  {size}", soft_wrap=True, highlight=False)
        if (certificate := found["certificate"]) is None:
            console.print("  not certified, as asked")
            continue
        mark = "[green]certified[/]" if certificate["passed"] else "[red]FAILED[/]"
        console.print(f"  {mark}  {certificate['sentence']}", soft_wrap=True, highlight=False)
        for sentence in [*certificate["faults"][1:6], *certificate["notes"]]:
            console.print(f"          {sentence}", soft_wrap=True, highlight=False)
