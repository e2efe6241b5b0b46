"""Hooks of MkDocs: a link to a file outside docs/ becomes its text, for the site has no such page."""

import re
from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page with links that leave docs/ as text."""
    up = page.file.src_uri.count("/") + 1
    return re.sub(rf"(?<!!)\[([^\]]+)\]\((?:\.\./){{{up}}}[^)]*\)", r"\1", markdown)
