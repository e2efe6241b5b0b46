"""Markdown with its prose wrapped at 100 columns.

Run as `python scripts/wrap.py FILE...`. Paragraphs and items of lists are filled; a formatter such
as mdformat writes tables and lists anew as well, so that every page would change in every line.
"""

import re
import sys
import textwrap
from pathlib import Path

WIDTH = 100
_KEPT = ("|", "#", "<", ">", "    ")
"""Beginnings of tables, headings, comments, quotations and code."""
_ITEM = re.compile(r"(\s*)((?:[-*+]|\d+\.) )?")
_BLOCK = re.compile(r"(?:[-*+>#|]|\d+[.)])(?:\s|$)")
"""What would begin a list, heading, quotation or table at the start of a line."""


def write_page(path: Path, text: str) -> None:
    """Write a page with its prose wrapped."""
    path.write_text(wrapped(text), encoding="utf-8")


def wrapped(text: str) -> str:
    """Return Markdown whose prose fills 100 columns; code and tables stay as they are."""
    lines: list[str] = []
    paragraph: list[str] = []
    in_code = False
    for line in text.split("\n"):
        fence = line.lstrip().startswith("```")
        if in_code or fence or not line.strip() or line.startswith(_KEPT):
            lines += [*_filled(paragraph), line]
            paragraph = []
            in_code ^= fence
            continue
        item = _ITEM.match(line)
        if item is not None and item[2]:
            lines += _filled(paragraph)
            paragraph = []
        paragraph.append(line)
    return "\n".join([*lines, *_filled(paragraph)])


def _filled(paragraph: list[str]) -> list[str]:
    """Return the lines of a paragraph or an item of a list, filled."""
    if not paragraph:
        return []
    item = _ITEM.match(paragraph[0])
    indent = " " * (len(item[0]) if item else 0)
    text = " ".join([paragraph[0].rstrip(), *(line.strip() for line in paragraph[1:])])
    lines: list[str] = []
    for part in textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ):
        if lines and _BLOCK.match(part.strip()):  # a dash or number that must not begin a line
            lines[-1] += " " + part.strip()
        else:
            lines.append(part)
    return lines


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write_page(Path(name), Path(name).read_text(encoding="utf-8"))
