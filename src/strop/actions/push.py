"""Upload of a certified export to a hub."""

from pathlib import Path
from typing import Any

from strop.core.errors import DataError


def push(folder: str, repo: str, *, public: bool = False) -> dict[str, Any]:
    """Upload a folder and return the address of the upload.

    Raises:
        StropError: the folder is not certified, or the hub refuses it.
    """
    if not Path(folder).is_dir():
        raise DataError(
            f"there is no folder {folder}; give one that strop export names as certified, such as "
            "runs/tone/export/merged"
        )
    from strop.exporting import upload

    return {"folder": folder, "repo": repo, "commit": upload.push(folder, repo, public=public)}
