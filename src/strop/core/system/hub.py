"""A short and quiet check that the Hugging Face hub can be reached."""

import http.client
import threading
import urllib.error
import urllib.request

_HUB_SECONDS = 5.0
"""Seconds after which a hub that has not answered counts as out of reach."""


def hub_problem() -> str | None:
    """Return why the hub cannot be reached, or None; takes seconds at most, whatever the network."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "is switched off by HF_HUB_OFFLINE"
    answer = [f"did not answer within {_HUB_SECONDS:.0f} seconds"]

    def request() -> None:
        # Not by huggingface_hub, which tries five times and says so each time.
        try:
            urllib.request.urlopen(constants.ENDPOINT, timeout=_HUB_SECONDS).close()
        except urllib.error.HTTPError:
            answer.append("")  # it is there
        except (OSError, http.client.HTTPException, ValueError) as e:
            answer.append(f"cannot be reached ({e})")
        else:
            answer.append("")

    thread = threading.Thread(
        target=request, daemon=True
    )  # a name server may hang beyond any timeout
    thread.start()
    thread.join(_HUB_SECONDS + 1)
    return answer[-1] or None
