"""Self-contained pages: templates, their style sheet, and the policy by which they ask for nothing."""

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from strop.core.files import written_whole
from strop.core.system.visible import visible
from strop.data.preview import STYLE

_FOLDER = Path(__file__).parent / "templates"


def write_page(file: Path, template: str, **context: Any) -> None:
    """Write a page from a template, whole or not at all.

    Everything from data is text: markup in it is escaped, control characters are shown. The policy
    of the page forbids scripts and every request; it allows its own style sheet by its digest.

    Args:
        file: to write.
        template: its name among the templates.
        **context: what the template shows.
    """
    style = (_FOLDER / "style.css").read_text(encoding="utf-8") + STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    page = _environment().get_template(template)
    text = page.render(style=Markup(style), policy=Markup(policy), **context)
    with written_whole(file) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_picture(file: Path, svg: Markup) -> None:
    """Write a picture as an SVG file that has its own style sheet, whole or not at all."""
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    start, rest = str.split(svg, ">", 1)  # as text, which is not escaped again
    head = start.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + ">"
    with written_whole(file) as scratch:
        scratch.write_text(f"{head}><style><![CDATA[{style}]]></style>{rest}", encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalized(value: Any) -> Any:
    """Return a value of a template as it is shown."""
    return visible(value.replace("\r\n", "\n")) if type(value) is str else value
