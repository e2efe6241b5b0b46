"""Documents: the text of text, Markdown, HTML and PDF files, with headings and pages if asked for."""

import html.parser
import importlib.util
import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from strop.core.errors import DataError, MissingPackageError
from strop.data.formats.record import NumberedRecord
from strop.data.reading.encodings import decoded_note, encoding_of
from strop.data.reading.files import LARGEST_WHOLE, UTF8, not_utf8, opened, suffix_of, whole
from strop.data.rows import Fault

TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".html", ".htm", ".pdf")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def document_rows(
    paths: Sequence[Path], encoding: str | None, note: Callable[[str], None]
) -> Iterator[NumberedRecord]:
    """Yield the text of each file as a row, numbered from 1.

    Args:
        paths: the files.
        encoding: of the text files; None recognises UTF-8 and what Windows writes.
        note: called with a sentence about each file that is not UTF-8.
    """
    for number, path in enumerate(paths, 1):
        try:
            text = text_of(path, encoding, note)
        except DataError as e:
            yield number, Fault(number, str(e), "unreadable_file")
            continue
        if text.strip():
            yield number, {"text": text}
        else:
            yield number, Fault(number, f"{path} holds no text", "empty_text")


def text_of(
    path: Path, encoding: str | None = None, note: Callable[[str], None] = lambda _: None
) -> str:
    """Return the text of a text, Markdown, HTML or PDF file; see `document_rows`.

    Raises:
        DataError: it cannot be read.
        MissingPackageError: it is a PDF and pypdf is not installed.
    """
    if suffix_of(path) == ".pdf":
        return "\n\n".join(page for page in pdf_pages(path) if page)
    text = decoded_text(path, encoding, note)
    return page_of(text).text if suffix_of(path) in (".html", ".htm") else text


def decoded_text(
    path: Path, encoding: str | None = None, note: Callable[[str], None] = lambda _: None
) -> str:
    """Return the content of a text file; see `document_rows`.

    Raises:
        DataError: it cannot be read.
    """
    actual = encoding_of(path, encoding)
    if encoding is None and actual != UTF8:
        note(decoded_note(path, actual))
    try:
        return whole(path).decode(actual).removeprefix("\ufeff")
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is {not_utf8(e)}") from e


def pdf_pages(path: Path) -> list[str]:
    """Return the text of each page of a PDF file, empty where a page has none.

    Raises:
        DataError: it cannot be read.
        MissingPackageError: pypdf is not installed.
    """
    if importlib.util.find_spec("pypdf") is None:
        raise MissingPackageError('reading PDF needs pypdf; run: pip install "strop[data]"')
    import pypdf
    import pypdf.errors

    try:
        with opened(path) as file:
            content = io.BytesIO(file.read(LARGEST_WHOLE))
        return [page.extract_text().strip() for page in pypdf.PdfReader(content).pages]
    except (
        *(
            pypdf.errors.PyPdfError,
            pypdf.errors.DependencyError,
            ValueError,
            LookupError,
            TypeError,
        ),
        *(OSError, AttributeError, ArithmeticError, AssertionError, RecursionError, struct.error),
        *(NotImplementedError, zlib.error),
    ) as e:  # what pypdf raises on files that are damaged or locked
        raise DataError(f"{path} is not a readable PDF: {e}") from e


class Page(NamedTuple):
    """An HTML page as it is read: its title, empty where it has none, and its visible text."""

    title: str
    text: str


class _VisibleText(html.parser.HTMLParser):
    """Collects the visible text of an HTML page."""

    _HIDDEN = frozenset(("script", "style", "head", "template", "noscript", "svg"))
    _IN_HEAD = frozenset(
        ("head", "title", "meta", "link", "base", "script", "style", "template", "noscript")
    )
    _BLOCKS = frozenset(
        (
            *("p", "div", "br", "li", "ul", "ol", "table", "tr", "pre", "blockquote"),
            *(*_HEADINGS, "section", "article"),
        )
    )

    def __init__(self, headings: bool) -> None:
        super().__init__()
        self.headings = headings
        self.parts: list[str] = []
        self.title: list[str] = []
        self.hidden: list[str] = []
        self.preformatted = 0
        """Number of open `pre` elements, inside which white space counts."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.hidden == ["head"] and tag not in self._IN_HEAD:
            self.hidden.clear()  # HTML lets the end tag of a head be left out
        if tag in self._HIDDEN:
            self.hidden.append(tag)
        self._separate(tag)
        if self.headings and tag in _HEADINGS and not self.hidden:
            self.parts.append(f"\n{'#' * int(tag[1])} ")
        self.preformatted += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in self.hidden:
            del self.hidden[self.hidden.index(tag) :]
        self.preformatted = max(0, self.preformatted - (tag == "pre"))
        self._separate(tag)

    def _separate(self, tag: str) -> None:
        if tag in self._BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "title" and self.hidden == ["head"]:
            self.title.append(data)
        if not self.hidden:
            self.parts.append(data if self.preformatted else re.sub(r"[ \t\r\n]+", " ", data))


def page_of(source: str, *, headings: bool = False) -> Page:
    """Return the title and the visible text of an HTML page.

    Args:
        source: of the page.
        headings: mark headings as Markdown does, with as many # as their level.
    """
    reader = _VisibleText(headings)
    reader.feed(source)
    reader.close()
    text = "\n".join(line.rstrip(" ") for line in "".join(reader.parts).split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", text).strip("\n").strip()
    return Page(" ".join("".join(reader.title).split()), text)
