"""Files: read and written under one guard, whole or absent, as JSON."""

from strop.core.files.guard import expanded, reading, writing
from strop.core.files.plain import (
    read_cached,
    read_json,
    read_sealed,
    write_cached,
    write_json,
    write_sealed,
    yaml_value,
)
from strop.core.files.whole import check_new, clear_leftovers, scratch_folder, sync, written_whole

__all__ = [
    "check_new",
    "clear_leftovers",
    "expanded",
    "read_cached",
    "read_json",
    "read_sealed",
    "reading",
    "scratch_folder",
    "sync",
    "write_cached",
    "write_json",
    "write_sealed",
    "writing",
    "written_whole",
    "yaml_value",
]
