"""`strop serve`: where requests go, until the server is stopped."""

import signal
import threading
from typing import Any


def set_on_signal(stopped: threading.Event) -> None:
    """Let Ctrl-C and SIGTERM set an event."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())


def show(result: dict[str, Any]) -> None:
    """Print where requests go, and what they must carry."""
    key = result["api_key"]
    print(f"models  {', '.join(result['models'])}")
    print(f"address {result['address']}")
    print(f"key     {key}" if key else "key     none is asked for on this machine's own address")
    print("stop    Ctrl-C", flush=True)
