"""Opens files safely: plain or gzip, line by line, with limits on what they may grow to."""

import contextlib
import gzip
import html.parser
import importlib.util
import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from strop.core.errors import DataError, MissingPackageError
from strop.data.rows import Fault

LONGEST_LINE = 64 * 2**20
"""Bytes one row may have; a longer one is taken for a file that is not what its name says."""

LARGEST_WHOLE = 2**30
"""Bytes of a file that has to be read as a whole, such as one JSON list."""

_BOMB_SIZE, _BOMB_RATIO = 4 * 2**20, 200
"""A gzip or Parquet file that grows beyond the size and by more than the ratio is taken for a bomb."""

TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".html", ".htm", ".pdf")


def refuse_bomb(path: Path, packed: int, unpacked: int) -> None:
    """Refuse a file that grows without bound when unpacked.

    Raises:
        DataError: it has grown by more than data does.
    """
    if unpacked > _BOMB_SIZE and unpacked > _BOMB_RATIO * packed:
        raise DataError(
            f"{path} grows to more than {_BOMB_RATIO} times its size when unpacked "
            f"({packed:,} bytes to over {unpacked:,}), which data does not do; unpack it yourself if "
            "you trust it"
        )


class _Guarded(io.RawIOBase):
    """The contents of a gzip file, refused when they grow without bound."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packed = path.stat().st_size
        self.unpacked = 0
        self.inner = gzip.open(path, "rb")  # noqa: SIM115 - closed in close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            chunk = self.inner.read(len(buffer))
        except (OSError, EOFError, zlib.error) as e:
            raise DataError(f"{self.path} is not a whole gzip file: {e}") from e
        self.unpacked += len(chunk)
        refuse_bomb(self.path, self.packed, self.unpacked)
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self.inner.close()
        super().close()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes; a `.gz` file is unpacked on the way."""
    if path.suffix.lower() == ".gz":
        with _Guarded(path) as raw, io.BufferedReader(raw, 2**20) as file:
            yield cast("IO[bytes]", file)
    else:
        with path.open("rb") as file:
            yield file


def kind_of(path: Path) -> str:
    """Return the suffix that tells the kind of a file, that of `a.jsonl.gz` being `.jsonl`."""
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return inner.suffix.lower()


def whole(path: Path) -> bytes:
    """Return all bytes of a file.

    Raises:
        DataError: it is larger than what can be read at once.
    """
    with opened(path) as file:
        content = file.read(LARGEST_WHOLE + 1)
    if len(content) > LARGEST_WHOLE:
        raise DataError(
            f"{path} has more than {LARGEST_WHOLE // 2**20} MiB and must be read as a whole; "
            "convert it to JSONL, which is read line by line"
        )
    return content


def lines_of(file: IO[bytes], path: Path) -> Iterator[tuple[int, str | Fault]]:
    """Yield each line as text, or the fault where it is not UTF-8.

    Raises:
        DataError: a line is too long to be one row.
    """
    offset = 0
    number = 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            raise DataError(
                f"{path}: line {number} is longer than {LONGEST_LINE // 2**20} MiB; a JSONL or CSV "
                "file has one row per line"
            )
        try:
            yield number, raw.decode("utf-8-sig")  # files with a byte-order mark may be joined
        except UnicodeDecodeError as e:
            yield number, Fault(number, not_utf8(e, offset), "not_utf8")
        offset += len(raw)


_OTHERS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b\x08": "gzip, which a name that ends in .gz tells",
    b"PK\x03\x04": "a ZIP archive or an Office file",
}


def not_utf8(error: UnicodeDecodeError, offset: int = 0) -> str:
    """Return where the byte stands that is not UTF-8, and what to do."""
    hint = next((name for mark, name in _OTHERS.items() if error.object.startswith(mark)), "")
    return (
        f"not UTF-8{f' but {hint}' if hint else ''}: byte 0x{error.object[error.start]:02x} at "
        f"offset {offset + error.start} of the file"
        + ("" if "gzip" in hint else "; save the file as UTF-8")
    )


def text_of(path: Path) -> str:
    """Return the text of a text, Markdown, HTML or PDF file.

    Raises:
        DataError: it cannot be read.
        MissingPackageError: it is a PDF and pypdf is not installed.
    """
    if kind_of(path) == ".pdf":
        return _of_pdf(path)
    content = whole(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is {not_utf8(e)}") from e
    return _visible(text) if kind_of(path) in (".html", ".htm") else text


def _of_pdf(path: Path) -> str:
    if importlib.util.find_spec("pypdf") is None:
        raise MissingPackageError('reading PDF needs pypdf; run: pip install "strop[data]"')
    import pypdf
    import pypdf.errors

    try:
        with opened(path) as file:
            content = io.BytesIO(file.read(LARGEST_WHOLE))
        pages = [page.extract_text() for page in pypdf.PdfReader(content).pages]
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
    return "\n\n".join(page.strip() for page in pages if page.strip())


class _Visible(html.parser.HTMLParser):
    """Collects the text a reader of an HTML page sees."""

    _HIDDEN = frozenset(("script", "style", "head", "template", "noscript", "svg"))
    _IN_HEAD = frozenset(
        ("head", "title", "meta", "link", "base", "script", "style", "template", "noscript")
    )
    _BLOCKS = frozenset(
        (
            *("p", "div", "br", "li", "ul", "ol", "table", "tr", "pre", "blockquote"),
            *("h1", "h2", "h3", "h4", "h5", "h6", "section", "article"),
        )
    )

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden: list[str] = []
        self.kept = 0
        """How many `pre` are open: in them spaces have a meaning."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.hidden == ["head"] and tag not in self._IN_HEAD:
            self.hidden.clear()  # HTML lets the end tag of a head be left out
        if tag in self._HIDDEN:
            self.hidden.append(tag)
        self._separate(tag)
        self.kept += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in self.hidden:
            del self.hidden[self.hidden.index(tag) :]
        self.kept = max(0, self.kept - (tag == "pre"))
        self._separate(tag)

    def _separate(self, tag: str) -> None:
        if tag in self._BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data if self.kept else re.sub(r"[ \t\r\n]+", " ", data))


def _visible(page: str) -> str:
    reader = _Visible()
    reader.feed(page)
    reader.close()
    text = re.sub(r" *\n", "\n", "".join(reader.parts))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n").strip()
