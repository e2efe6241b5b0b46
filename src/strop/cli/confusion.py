"""Confusion table on a terminal: of many classes those that fit."""

from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

_CORNER = "right \\ answered"
_OF_CLASS = ("precision", "recall", "f1")
_OTHERS = "others"


def print_confusion(console: Console, measures: dict[str, Any], name: str) -> None:
    """Print the confusion table of a model, and say which classes are left out of it.

    Args:
        console: whose width decides how many classes fit.
        measures: with `confusion` and `per_class`, as `strop eval --json` has them.
        name: of the model.
    """
    confusion, per_class = measures["confusion"], measures["per_class"]
    shown = fitting_classes(confusion, console.width)
    left_out = len(confusion) - len(shown)
    table = Table(title=f"answers of the {name} model: a row for each right label")
    table.add_column(_CORNER)
    for label in [*shown, _OTHERS] if left_out else shown:
        table.add_column(label, justify="right")
    for column in _OF_CLASS:
        table.add_column(column, justify="right")
    for right in shown:
        counts = [confusion[right][label] for label in shown]
        if left_out:
            counts.append(sum(confusion[right].values()) - sum(counts))
        shares = (per_class[right].get(column) for column in _OF_CLASS)
        cells = ("" if share is None else f"{100 * share['value']:.1f} %" for share in shares)
        table.add_row(right, *map(str, counts), *cells)
    console.print(table)
    if left_out:
        console.print(
            f"{len(shown)} of {len(confusion)} classes, those most often confused; --json prints all "
            "of them, in confusion and per_class",
            soft_wrap=True,
            highlight=False,
        )


def fitting_classes(confusion: dict[str, dict[str, int]], width: int) -> list[str]:
    """Return the classes whose columns fit, at least one: all, or those most often confused."""
    digits = max(len(str(sum(chosen.values()))) for chosen in confusion.values())
    sizes = {label: max(cell_len(label), digits) + 3 for label in confusion}
    room = width - max(cell_len(_CORNER) + 3, *sizes.values()) - 1
    room -= sum(max(cell_len(column), cell_len("100.0 %")) + 3 for column in _OF_CLASS)
    if sum(sizes.values()) <= room:
        return list(confusion)
    room -= max(cell_len(_OTHERS), digits) + 3
    wrong = dict.fromkeys(confusion, 0)
    for right, chosen in confusion.items():
        for label, count in chosen.items():
            if label != right:
                wrong[right] += count
                wrong[label] += count
    fitting: list[str] = []
    for label in sorted(confusion, key=wrong.__getitem__, reverse=True):
        room -= sizes[label]
        if fitting and room < 0:
            break
        fitting.append(label)
    return [label for label in confusion if label in fitting]
