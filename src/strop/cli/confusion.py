"""Confusion table on a terminal: of many classes those that fit."""

from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

_CORNER = "right \\ answered"
_OF_CLASS = ("precision", "recall", "f1")
_OTHERS = "others"
_SHARES = sum(max(cell_len(column), cell_len("100.0 %")) + 3 for column in _OF_CLASS)
"""Width of their columns, which stand below where they do not fit beside the counts."""


def print_confusion(console: Console, measures: dict[str, Any], name: str) -> None:
    """Print the confusion table of a model, and say which classes are left out of it.

    Args:
        console: whose width decides how many classes fit.
        measures: with `confusion` and `per_class`, as `strop eval --json` has them.
        name: of the model.
    """
    confusion, per_class = measures["confusion"], measures["per_class"]
    beside = _width(confusion) + _SHARES <= console.width
    shown = fitting_classes(confusion, console.width)
    left_out = len(confusion) - len(shown)
    shares = {label: _shares(per_class[label]) for label in shown}
    table = Table(title=f"answers of the {name} model: a row for each right label")
    table.add_column(_CORNER)
    for label in [*shown, *[_OTHERS] * bool(left_out), *(_OF_CLASS if beside else ())]:
        table.add_column(label, justify="right")
    for right in shown:
        counts = [confusion[right][label] for label in shown]
        if left_out:
            counts.append(sum(confusion[right].values()) - sum(counts))
        table.add_row(right, *map(str, counts), *(shares[right] if beside else ()))
    console.print(table)
    if not beside:
        below = Table(title="and of each label")
        below.add_column("label")
        for column in _OF_CLASS:
            below.add_column(column, justify="right")
        for label in shown:
            below.add_row(label, *shares[label])
        console.print(below)
    if left_out:
        console.print(
            f"{len(shown)} of {len(confusion)} classes, those most often confused; --json prints all "
            "of them, in confusion and per_class",
            soft_wrap=True,
            highlight=False,
        )


def fitting_classes(confusion: dict[str, dict[str, int]], width: int) -> list[str]:
    """Return the classes whose columns fit, at least one: all, or those most often confused."""
    sizes = _sizes(confusion)
    if _width(confusion) <= width:
        return list(confusion)
    room = width - _first(sizes) - max(cell_len(_OTHERS), _digits(confusion)) - 3
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


def _shares(of_class: dict[str, Any]) -> list[str]:
    """Return precision, recall and F1 of a class as cells."""
    shares = (of_class.get(column) for column in _OF_CLASS)
    return ["" if share is None else f"{100 * share['value']:.1f} %" for share in shares]


def _digits(confusion: dict[str, dict[str, int]]) -> int:
    return max(len(str(sum(chosen.values()))) for chosen in confusion.values())


def _sizes(confusion: dict[str, dict[str, int]]) -> dict[str, int]:
    """Return the width of the column of each class."""
    return {label: max(cell_len(label), _digits(confusion)) + 3 for label in confusion}


def _first(sizes: dict[str, int]) -> int:
    """Return the width of the column of right labels, and of the table's edge."""
    return max(cell_len(_CORNER) + 3, *sizes.values()) + 1


def _width(confusion: dict[str, dict[str, int]]) -> int:
    """Return the width of a table of all classes without their shares."""
    sizes = _sizes(confusion)
    return _first(sizes) + sum(sizes.values())
