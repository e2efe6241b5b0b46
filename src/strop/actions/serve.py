"""Description of a server, for those who send it requests."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.serving.targets import check_target

if TYPE_CHECKING:
    from strop.serving.documents import Documents
    from strop.serving.server import Server


def check_targets(targets: Sequence[str]) -> None:
    """Raise ConfigError if a name stands for nothing that can be served."""
    for target in targets:
        check_target(target)


def documents_of(folder: Path | None) -> "Documents | None":
    """Return the documents that a server shows; an index that is missing may come later."""
    if folder is None:
        return None
    from strop.retrieval.evidence import Retrieving
    from strop.serving.documents import Documents

    return Documents(folder, Retrieving())


def description(server: "Server") -> dict[str, Any]:
    """Return where requests go, the models they can name, and the key they must carry."""
    return {
        "address": f"{server.address}/v1",
        "models": list(server.models),
        "api_key": server.api_key,
    }
