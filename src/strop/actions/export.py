"""Export of a run for other programs, with certificates."""

from collections.abc import Sequence
from typing import Any

from strop.core.progress import Progress, silent


def export(
    run: str,
    targets: Sequence[str],
    *,
    progress: Progress = silent,
    **options: Any,
) -> dict[str, Any]:
    """Export as `strop.export` does; return each export's folder, size and certificate.

    Args:
        run: a run folder.
        targets: what to write, such as `merged` and `gguf`.
        progress: called as the work goes on.
        **options: of `strop.export`.

    Raises:
        StropError: the run cannot be exported so.
    """
    from strop.exporting.arguments import check
    from strop.runs.run import Run

    Run.open(run)
    check(targets, options.get("dtype"))
    from strop.exporting import exporter

    exports = exporter.export(run, *targets, progress=progress, **options)
    return {
        "run": run,
        "certified": all(e.certificate.passed for e in exports if e.certificate),
        "exports": [
            {
                "target": e.target,
                "format": e.format,
                "path": str(e.path),
                "bytes": e.nbytes,
                "certificate": e.certificate.plain() if e.certificate else None,
            }
            for e in exports
        ],
    }
