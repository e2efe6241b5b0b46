"""A server of runs and GGUF files: one engine per file, and the gateway before all of them."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from strop.serving.engine import CONTEXT, Engine
from strop.serving.served import find
from strop.serving.targets import check_installed


@dataclass(frozen=True, slots=True)
class Server:
    """Models that answer OpenAI-style requests until it is closed; also a context manager."""

    address: str
    """`http://HOST:PORT`."""
    models: tuple[str, ...]
    """Names that requests give."""
    api_key: str | None
    """Key that requests must carry, or None."""
    _resources: contextlib.ExitStack

    def __enter__(self) -> "Server":
        """Return the server itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the server."""
        self.close()

    def close(self) -> None:
        """Stop listening, then free the models."""
        self._resources.close()


def server(
    names: Sequence[str],
    *,
    context: int = CONTEXT,
    slots: int = 4,
    uncertified: bool = False,
    **listening: Any,
) -> Server:
    """Open the models, then listen for requests.

    Args:
        names: run folders, GGUF files or packaged models.
        context: tokens a conversation may have.
        slots: conversations answered at the same time by each file.
        uncertified: take exports that are not certified, or changed since.
        listening: `port`, `access`, `documents` and `log` of `strop.serving.gateway.Gateway`.

    Raises:
        StropError: a model cannot be served, or the address cannot be listened on.
    """
    check_installed()
    from strop.serving.gateway import Gateway, Route

    models = find(names, uncertified=uncertified)
    adapters: dict[tuple[Path, date | None], list[Path]] = {}
    for model in models:
        over = adapters.setdefault((model.file, model.day), [])
        over += [] if model.adapter is None else [model.adapter]
    with contextlib.ExitStack() as stack:
        engines: dict[tuple[Path, date | None], Engine] = {}
        for key, files in adapters.items():
            file, day = key
            engines[key] = Engine(file, adapters=files, context=context, slots=slots, day=day)
            stack.callback(engines[key].close)
        routes = {}
        for model in models:
            key = model.file, model.day
            number = None if model.adapter is None else adapters[key].index(model.adapter)
            routes[model.name] = Route(engines[key], number)
        gateway = Gateway(routes, **listening)
        stack.callback(gateway.close)
        resources = stack.pop_all()
    return Server(gateway.address, tuple(routes), gateway.access.api_key, resources)
