"""Description of a server, for those who send it requests."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strop.serving.server import Server


def description(server: "Server") -> dict[str, Any]:
    """Return where requests go, the models they can name, and the key they must carry."""
    return {
        "address": f"{server.address}/v1",
        "models": list(server.models),
        "api_key": server.api_key,
    }
