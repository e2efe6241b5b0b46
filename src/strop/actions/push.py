"""Upload of a certified export to a hub."""

from typing import Any


def push(folder: str, repo: str, *, public: bool = False) -> dict[str, Any]:
    """Upload a folder and return the address of the upload.

    Raises:
        StropError: the folder is not certified, or the hub refuses it.
    """
    from strop.exporting import upload

    return {"folder": folder, "repo": repo, "commit": upload.push(folder, repo, public=public)}
