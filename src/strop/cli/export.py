"""`strop export` and `strop push`: where exports are, and what their certificates say."""

from typing import Any

from rich.console import Console

from strop.core.system.disk import format_size


def show(result: dict[str, Any]) -> None:
    """Print where each export is and what its certificate says."""
    console = Console()
    for export in result["exports"]:
        size = format_size(export["bytes"])
        console.print(f"{export['path']}  {size}", soft_wrap=True, highlight=False)
        if (certificate := export["certificate"]) is None:
            console.print("  not certified, as asked")
            continue
        mark = "[green]certified[/]" if certificate["passed"] else "[red]FAILED[/]"
        console.print(f"  {mark}  {certificate['sentence']}", soft_wrap=True, highlight=False)
        for sentence in [*certificate["faults"][1:6], *certificate["notes"]]:
            console.print(f"          {sentence}", soft_wrap=True, highlight=False)


def show_upload(result: dict[str, Any]) -> None:
    """Print where the upload is."""
    print(f"{result['folder']} is at {result['commit']}")
