"""Markdown with its prose wrapped at 100 columns.

Run as `python scripts/wrap.py FILE...`. Only lines that are longer are touched: a formatter such as
mdformat writes lists and tables anew as well, so that every page would change in every line.
"""

import re
import sys
import textwrap
from pathlib import Path

WIDTH = 100
_KEPT = ("|", "#", "<", "    ")
"""Beginnings of tables, headings, comments and code."""
_ITEM = re.compile(r"\s*(?:[-*+] |\d+\. )?")
_BLOCK = re.compile(r"(?:[-*+>#|]|\d+[.)])(?:\s|$)")
"""What would begin a list, heading, quotation or table at the start of a line."""


def write_page(path: Path, text: str) -> None:
    """Write a page with its prose wrapped."""
    path.write_text(wrapped(text), encoding="utf-8")


def wrapped(text: str) -> str:
    """Return Markdown whose prose has at most 100 columns; code and tables stay as they are."""
    lines: list[str] = []
    in_code = False
    for line in text.split("\n"):
        in_code ^= line.lstrip().startswith("```")
        if in_code or len(line) <= WIDTH or line.startswith(_KEPT):
            lines.append(line)
            continue
        item = _ITEM.match(line)
        indent = " " * (len(item[0]) if item else 0)
        parts = textwrap.wrap(
            line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        for number, part in enumerate(parts):
            if number and _BLOCK.match(part.strip()):
                lines[-1] += " " + part.strip()
            else:
                lines.append(part)
    return "\n".join(lines)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write_page(Path(name), Path(name).read_text(encoding="utf-8"))
