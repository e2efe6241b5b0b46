"""Files that are either whole or absent: written under a temporary name, then renamed."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strop.core.errors import UnsupportedError


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` if the block succeeds.

    Works for a file and for a folder. After an error nothing is left under either name.

    Raises:
        UnsupportedError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield scratch / path.name
        if path.is_dir():
            shutil.rmtree(path)
        (scratch / path.name).replace(path)
    except OSError as e:
        if e.errno != 28:  # ENOSPC
            raise
        free = shutil.disk_usage(path.parent).free
        raise UnsupportedError(
            f"the disk is full: writing {path} failed with {free / 1e6:.0f} MB free; "
            "make room and run the same command again"
        ) from e
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with written_whole(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
