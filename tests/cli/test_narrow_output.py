"""Output where the terminal's encoding lacks characters, and where it is a file."""

import io
import json
import sys

import pytest

from strop.cli.commands.data import _show_pieces, _show_report
from strop.cli.output import _json, replace_unknown_characters

REPORT = {
    "source": "größe_漢字.jsonl",
    "usable": 2,
    "rows": 2,
    "format": "text",
    "columns": {"text": 2},
    "findings": [
        {
            "severity": "info",
            "kind": "mixed_languages",
            "message": "the rows are in several languages: " + "Chinese 漢, " * 20,
            "rows": [1, 2],
            "example": "漢字 → …",
            "remedy": "nothing " * 20,
        }
    ],
    "lengths": {
        "tokens": 3, "supervised": 3, "median": 1, "p95": 2, "longest": 2,
        "histogram": [[0, 2, 1], [2, 4, 1]],
    },
}  # fmt: skip
PIECES = {
    "pieces": [
        {"text": "漢?", "kind": "context", "tokens": 2},
        {"text": "né", "kind": "supervised", "tokens": 1},
    ]
}


@pytest.fixture
def output(monkeypatch):
    def show(encoding, print_it):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, newline="")
        monkeypatch.setattr(sys, "stdout", stream)
        replace_unknown_characters()
        print_it()
        stream.flush()
        return stream.buffer.getvalue().decode(encoding)

    return show


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_report_is_shown_whatever_the_terminal_can_write(encoding, output):
    text = output(encoding, lambda: _show_report(REPORT))
    assert "2 of 2 rows can be used" in text
    assert ("█" if encoding == "utf-8" else "#") * 40 in text
    lines = text.splitlines()
    assert any(line.startswith(" " * 9 + "nothing nothing") and len(line) > 160 for line in lines)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_what_is_learned_is_marked_without_colours(encoding, output):
    text = output(encoding, lambda: _show_pieces(PIECES))
    assert text.startswith("??[[né]]" if encoding == "cp1252" else "漢?[[né]]")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_json_loses_no_character(encoding, output):
    text = output(encoding, lambda: sys.stdout.write(_json(REPORT)))
    assert json.loads(text) == REPORT
