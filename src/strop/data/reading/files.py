"""Files: plain or gzip, line by line or whole, with limits on their size."""

import contextlib
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from strop.core.errors import DataError
from strop.core.files import reading
from strop.data.rows import Fault

UTF8 = "utf-8"
LONGEST_LINE = 64 * 2**20
"""Most bytes of a row; a longer one means that the file is not what its name says."""

LARGEST_WHOLE = 2**30
"""Most bytes of a file that has to be read as a whole, such as one JSON list."""

_BOMB_SIZE, _BOMB_RATIO = 4 * 2**20, 200
"""Size and ratio of growth beyond which a gzip or Parquet file counts as a bomb."""


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
    """Content of a gzip file, refused when it grows without bound."""

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
    """Open a file for reading bytes; a `.gz` file is unpacked on the way.

    Raises:
        DataError: it cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        with reading(path):
            if path.suffix.lower() == ".gz":
                raw = stack.enter_context(_Guarded(path))
                file = stack.enter_context(cast("IO[bytes]", io.BufferedReader(raw, 2**20)))
            else:
                file = stack.enter_context(path.open("rb"))
        yield file


def suffix_of(path: Path) -> str:
    """Return the suffix of a file in lower case, without `.gz`: `.jsonl` of `a.jsonl.gz`."""
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


def lines_of(path: Path, encoding: str = UTF8) -> Iterator[tuple[int, str | Fault]]:
    """Yield each line of a file as text, or a fault if it is not UTF-8.

    Args:
        path: the file.
        encoding: that it is in; the whole file fits one that is not UTF-8.

    Raises:
        DataError: a line is too long to be one row.
    """
    if encoding != UTF8:
        yield from _decoded_lines(path, encoding)
        return
    offset = 0
    number = 0
    with opened(path) as file:
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            _check_length(path, number, len(raw))
            line, size = _decoded(raw, number, offset), len(raw)
            del raw  # a row may have tens of megabytes
            yield number, line
            del line
            offset += size


def _decoded_lines(path: Path, encoding: str) -> Iterator[tuple[int, str | Fault]]:
    with opened(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="\n") as text:
        for number in itertools.count(1):
            line = text.readline(LONGEST_LINE + 1)
            if not line:
                return
            _check_length(path, number, len(line))
            yield number, line.removeprefix("\ufeff")


def _check_length(path: Path, number: int, length: int) -> None:
    if length > LONGEST_LINE:
        raise DataError(
            f"{path}: line {number} is longer than {LONGEST_LINE // 2**20} MiB; a JSONL or "
            "CSV file has one row per line"
        )


def _decoded(raw: bytes, number: int, offset: int) -> str | Fault:
    try:
        return raw.decode("utf-8-sig")  # files with a byte-order mark may be joined
    except UnicodeDecodeError as e:
        return Fault(number, not_utf8(e, offset), "not_utf8")


_OTHERS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b\x08": "gzip, which a name that ends in .gz tells",
    b"PK\x03\x04": "a ZIP archive or an Office file",
}


def not_utf8(error: UnicodeDecodeError, offset: int = 0) -> str:
    """Return the error text for bytes that are not UTF-8: their place and the remedy."""
    hint = next((name for mark, name in _OTHERS.items() if error.object.startswith(mark)), "")
    return (
        f"not UTF-8{f' but {hint}' if hint else ''}: byte 0x{error.object[error.start]:02x} at "
        f"offset {offset + error.start} of the file"
        + ("" if "gzip" in hint else "; save the file as UTF-8")
    )
