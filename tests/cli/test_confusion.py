"""The confusion table of many classes, as a terminal shows it."""

import io

import pytest
from rich.console import Console

from strop.cli.confusion import fitting_classes, print_confusion


def measures(count):
    labels = [f"class number {i}" for i in range(count)]
    confusion = {a: {b: 5 * (a == b) for b in labels} for a in labels}
    confusion[labels[-1]][labels[0]] = 3
    share = {name: {"value": 0.5} for name in ("precision", "recall", "f1")}
    return {"confusion": confusion, "per_class": dict.fromkeys(labels, share)}


def shown(count, width):
    console = Console(file=io.StringIO(), width=width)
    print_confusion(console, measures(count), "tuned")
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("count", [2, 3, 5, 77])
def test_no_cell_of_a_confusion_table_is_cut(count, width):
    text = shown(count, width)
    assert "…" not in text
    assert max(map(len, text.splitlines()[1:-1])) <= width
    for label in fitting_classes(measures(count)["confusion"], width):
        assert label in text
    classes = len(fitting_classes(measures(count)["confusion"], width))
    assert (f"{classes} of {count} classes" in text) == (classes < count)
    assert ("--json" in text) == (classes < count)


def test_three_classes_are_shown_whole_with_their_shares_below_where_they_do_not_fit_beside():
    text = shown(3, 80)
    assert "of 3 classes" not in text
    assert text.count("50.0 %") == 9


def test_the_classes_that_are_shown_are_those_most_often_confused():
    classes = fitting_classes(measures(77)["confusion"], 120)
    assert {"class number 0", "class number 76"} <= set(classes)


def test_counts_of_classes_that_are_left_out_are_in_others():
    text = shown(77, 120)
    row = next(line for line in text.splitlines() if line.startswith("│ class number 76"))
    counts = [cell.strip() for cell in row.split("│")[2:-1]]
    assert sum(map(int, counts)) == 8
