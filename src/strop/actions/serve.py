"""Description of a server, for those who send it requests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from strop.serving.targets import check_target

if TYPE_CHECKING:
    from strop.serving.server import Server


def check_targets(targets: Sequence[str]) -> None:
    """Raise ConfigError if a name stands for nothing that can be served."""
    for target in targets:
        check_target(target)


def description(server: "Server") -> dict[str, Any]:
    """Return where requests go, the models they can name, and the key they must carry."""
    return {
        "address": f"{server.address}/v1",
        "models": list(server.models),
        "api_key": server.api_key,
    }
