"""`strop serve`: answers OpenAI-style requests until it is stopped."""

import contextlib
import signal
import threading
from collections.abc import Sequence
from typing import Any


class Serving:
    """Models that are being served."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        context: int,
        slots: int,
        uncertified: bool = False,
        **door: Any,
    ) -> None:
        """Open the models, then the door.

        Raises:
            StropError: a model cannot be served, or the address cannot be listened on.
        """
        from strop.serving.engine import Engine, check_installed
        from strop.serving.served import find

        check_installed()
        from strop.serving.gateway import Gateway, Route

        found = find(names, uncertified=uncertified)
        engines = {}
        with contextlib.ExitStack() as opened:
            for file in dict.fromkeys(served.file for served in found):
                laid = [s.adapter for s in found if s.file == file and s.adapter is not None]
                engine = Engine(file, adapters=laid, context=context, slots=slots)
                opened.callback(engine.close)
                engines[file] = (engine, laid)
            routes = {}
            for served in found:
                engine, laid = engines[served.file]
                own = None if served.adapter is None else laid.index(served.adapter)
                routes[served.name] = Route(engine, own)
            gateway = Gateway(routes, **door)
            opened.callback(gateway.close)
            self._closing = opened.pop_all()
        self._stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopped.set())
        self.result = {
            "address": f"{gateway.address}/v1",
            "models": list(routes),
            "api_key": gateway.api_key,
        }

    def until_stopped(self) -> None:
        """Wait for Ctrl-C or SIGTERM, then close the door and let the models go."""
        self._stopped.wait()
        self._closing.close()


def show(result: dict[str, Any]) -> None:
    """Say where requests go, and what they must carry."""
    key = result["api_key"]
    print(f"models  {', '.join(result['models'])}")
    print(f"address {result['address']}")
    print(f"key     {key}" if key else "key     none is asked for on this machine's own address")
    print("stop    Ctrl-C", flush=True)
