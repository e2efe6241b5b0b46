"""`strop push`: uploads a certified export to a hub."""

from typing import Any

from strop.exporting.upload import push


def upload(folder: str, repo: str, *, public: bool) -> dict[str, Any]:
    """Upload and return what went where.

    Raises:
        StropError: the folder is not certified, or the hub does not take it.
    """
    return {"folder": folder, "repo": repo, "commit": push(folder, repo, public=public)}


def show(result: dict[str, Any]) -> None:
    """Print where the upload lies."""
    print(f"{result['folder']} is at {result['commit']}")
