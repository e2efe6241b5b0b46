"""Sections of documents: text with its title and place, from files of any of the known kinds."""

import html
import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.core.errors import DataError, MissingPackageError
from strop.core.files import reading
from strop.data.reading.documents import TEXT_SUFFIXES, decoded_text, page_of, pdf_pages
from strop.data.reading.files import opened, suffix_of
from strop.data.reading.sources import records
from strop.data.rows import Fault

ROW_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
DOCUMENT_SUFFIXES = (*TEXT_SUFFIXES, ".docx", *ROW_SUFFIXES)
_TEXT_COLUMNS = ("text", "content", "contents", "passage", "body", "context", "document", "page")
_TITLE_COLUMNS = ("title", "heading", "headline", "name", "subject")
_ATTEMPTS = 3
"""Times that a file is read which changes meanwhile."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document that has a place of its own: a page, a row, or all of it."""

    text: str
    """With Markdown's headings."""
    place: str = ""
    """What follows the document's name in a source: `:12` for a row, `#page=3` for a page."""
    title: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Other columns of a row."""


def document_files(docs: Path, index: Path) -> list[Path]:
    """Return the files of a folder that are read, sorted; or the file itself.

    Files whose names begin with a dot, what lies in such folders, and the index are left out.

    Raises:
        DataError: there is nothing of that name, or nothing in it that is read.
    """
    if not docs.exists():
        raise DataError(f"there is no file or folder {docs}")
    if docs.is_file():
        if suffix_of(docs) not in DOCUMENT_SUFFIXES:
            raise DataError(f"{docs} is of no kind that is read; give {_kinds()}")
        return [docs]
    paths = []
    for folder, folders, files in os.walk(docs):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and Path(folder, name).resolve() != index.resolve()
        )
        paths += [Path(folder, name) for name in files if not name.startswith(".")]
    usable = sorted(path for path in paths if suffix_of(path) in DOCUMENT_SUFFIXES)
    if not usable:
        content = f"{len(paths):,} files of other kinds" if paths else "no files"
        raise DataError(f"{docs} holds {content}, nothing to index; give a folder with {_kinds()}")
    return usable


def _kinds() -> str:
    return ", ".join(f"*{suffix}" for suffix in DOCUMENT_SUFFIXES)


def state_of(path: Path) -> list[int]:
    """Return size and time of change of a file."""
    with reading(path):
        stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def settled_sections(path: Path) -> tuple[list[Section], list[str], list[int]]:
    """Return the sections of a file that did not change while it was read, notes, and its state.

    Raises:
        DataError: it cannot be read, or goes on changing.
    """
    for _ in range(_ATTEMPTS):
        before = state_of(path)
        notes: list[str] = []
        sections = list(sections_of(path, notes))
        if state_of(path) == before:
            return sections, notes, before
    raise DataError(f"{path} changed each of {_ATTEMPTS} times while it was read; index it again")


def sections_of(path: Path, notes: list[str]) -> Iterator[Section]:
    """Yield the sections of a file that hold text.

    Args:
        path: the file.
        notes: gets a sentence about each part that was not read as it stands.

    Raises:
        DataError: it cannot be read, or has no text.
        MissingPackageError: its kind needs a package that is not installed.
    """
    suffix = suffix_of(path)
    if suffix in ROW_SUFFIXES:
        sections = _rows(path, notes)
    elif suffix == ".pdf":
        sections = _pages(path, notes)
    elif suffix == ".docx":
        sections = iter([Section(page_of(_docx_as_html(path), headings=True).text)])
    else:
        text = decoded_text(path, note=notes.append)
        if suffix in (".html", ".htm"):
            page = page_of(text, headings=True)
            sections = iter([Section(page.text, title=page.title)])
        else:
            sections = iter([Section(text)])
    count = 0
    for section in sections:
        if section.text.strip():
            count += 1
            yield section
    if not count:
        raise DataError(f"{path} holds no text")


def _pages(path: Path, notes: list[str]) -> Iterator[Section]:
    pages = pdf_pages(path)
    if missing := [number for number, page in enumerate(pages, 1) if not page]:
        scanned = "it seems to be scanned; recognise its text first, as ocrmypdf does"
        if len(missing) == len(pages):
            raise DataError(
                f"{path} has {len(pages):,} pages and no text on any of them; {scanned}"
            )
        numbers = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        notes.append(f"{path}: {len(missing):,} of {len(pages):,} pages hold no text ({numbers})")
    for number, page in enumerate(pages, 1):
        yield Section(page, f"#page={number}")


def _docx_as_html(path: Path) -> str:
    if importlib.util.find_spec("mammoth") is None:
        raise MissingPackageError('reading DOCX needs mammoth; run: pip install "strop[rag]"')
    import mammoth

    with reading(path, "save it again as .docx"), opened(path) as file:
        source: str = mammoth.convert_to_html(
            file, convert_image=mammoth.images.img_element(lambda _: {"src": ""})
        ).value
    return source


def _rows(path: Path, notes: list[str]) -> Iterator[Section]:
    faults: list[str] = []
    count = 0
    for number, row in records(path, note=notes.append):
        if isinstance(row, Fault):
            faults.append(f"{path}:{number}: {row.reason}")
            continue
        columns = {str(name).lower(): name for name in row}
        text = next((columns[name] for name in _TEXT_COLUMNS if name in columns), None)
        if text is None or not isinstance(row[text], str):
            faults.append(f"{path}:{number}: no column {', '.join(_TEXT_COLUMNS)} with a text")
            continue
        title = next((columns[name] for name in _TITLE_COLUMNS if name in columns), None)
        plain = {
            str(name): value
            for name, value in row.items()
            if name not in (text, title) and isinstance(value, str | int | float | bool)
        }
        count += 1
        heading = html.unescape(str(row[title])) if title is not None and row[title] else ""
        yield Section(row[text], f":{number}", heading, plain)
    if faults:
        if not count:
            raise DataError(f"no row of {path} can be read: {faults[0]}")
        more = f", and {len(faults) - 1:,} more" if len(faults) > 1 else ""
        notes.append(f"{faults[0]}{more}; left out")
