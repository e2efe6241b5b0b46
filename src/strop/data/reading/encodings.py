"""Encodings of text files: UTF-8, or what Excel and Windows write, if the whole file fits."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from strop.core.errors import DataError
from strop.data.reading.files import UTF8, opened

_UTF16 = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_WINDOWS = "cp1252"
_PART = 1 << 20

_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]|[\x81\x8d\x8f\x90\x9d\xff]")
"""Control characters, bytes that cp1252 does not have, and the mark of files that are no text."""
_HIGH = re.compile(rb"[\x80-\xff]")
_RUN = re.compile(rb"[\x80-\xff]{4}")
"""Letters side by side that are not of ASCII: no language that is written in cp1252 has four."""
_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
"""A character of UTF-8 beyond ASCII."""


def encoding_of(path: Path, forced: str | None = None) -> str:
    """Return the encoding of a text file; UTF-8 also if it fits none as a whole.

    Args:
        path: the file.
        forced: the name of its encoding, if that is known.

    Raises:
        DataError: the forced encoding does not exist, or does not fit the file.
    """
    if forced is not None:
        if fault := encoding_fault(forced):
            raise DataError(fault)
        _check_fits(path, forced)
        return codecs.lookup(forced).name
    with opened(path) as file:
        mark = _UTF16.get(file.read(2))
    if mark is not None:
        return mark if _fits(path, mark) else UTF8
    if _fits(path, UTF8):
        return UTF8
    return _WINDOWS if _is_windows(path) else UTF8


def encoding_fault(name: str) -> str | None:
    """Return why a name is no encoding of texts, or None if it is one."""
    try:
        known = codecs.lookup(name)
        "a".encode(name)  # an empty text is decoded by every codec
    except (LookupError, UnicodeError, ValueError):
        known = None
    if known is None:
        return f"encoding is {name!r}, which Python does not know; give utf-8, cp1252, utf-16, …"
    return None


def decoded_note(path: Path, encoding: str) -> str:
    """Return a sentence about a file that is read in another encoding than UTF-8."""
    return f"{path} is not UTF-8 and is read as {encoding}, which all of it fits"


def _parts(path: Path) -> Iterator[bytes]:
    with opened(path) as file:
        while part := file.read(_PART):
            yield part


def _fits(path: Path, encoding: str) -> bool:
    try:
        _check_fits(path, encoding)
    except DataError:
        return False
    return True


def _check_fits(path: Path, encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    try:
        for part in _parts(path):
            decoder.decode(part)
            offset += len(part)
        decoder.decode(b"", final=True)
    except UnicodeError as e:
        place = offset + getattr(e, "start", 0)
        raise DataError(
            f"{path} is not {encoding}: {getattr(e, 'reason', e)} near offset {place:,} of the file; "
            "give the encoding it was saved in, or save it as UTF-8"
        ) from e


def _is_windows(path: Path) -> bool:
    """Return whether all of a file is text in cp1252, and no mixture with UTF-8."""
    high = sequences = 0
    for part in _parts(path):
        if _NO_TEXT.search(part) or _RUN.search(part):
            return False
        high += len(_HIGH.findall(part))
        sequences += sum(map(len, _SEQUENCE.findall(part)))
    return 10 * sequences <= high
