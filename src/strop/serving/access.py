"""Who may ask a server: by key, by the host a request names, by the web page it comes from."""

import hmac
import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from strop.core.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_METHODS = "GET, POST, OPTIONS"


class Access:
    """Checks of a request's host, origin and key, before its content is read.

    A page of another site that a browser shows can send requests to this machine's own address, and
    read the answers if its name resolves to it. Browsers say where a page comes from (`Origin`) and
    what name they asked (`Host`): on loopback only this machine's names are answered, and pages
    only of the origins that were allowed.

    Args:
        host: the address that is listened on.
        api_key: what requests must carry; None asks for none on loopback, and makes a key elsewhere.
        origins: `SCHEME://HOST[:PORT]` of pages that may ask, or `*` for all.

    Raises:
        ConfigError: the key is empty, or an origin is none.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        api_key: str | None = None,
        origins: Sequence[str] = (),
    ) -> None:
        faults = [_origin_fault(origin) for origin in origins]
        if api_key is not None and not api_key.strip():
            faults.append(
                "api-key is empty, which would let everybody in; give one, or leave it out"
            )
        if faults := [fault for fault in faults if fault]:
            raise ConfigError("; ".join(faults))
        self.host = host
        self.on_loopback = host in LOOPBACK
        if api_key is None and not self.on_loopback:
            api_key = secrets.token_urlsafe(24)
        self.api_key = api_key
        self.origins = tuple(origins)

    def key_fits(self, authorization: str) -> bool:
        """Return whether a header `Authorization` carries the key; compared in constant time."""
        if self.api_key is None:
            return True
        given = authorization.removeprefix("Bearer ").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self.api_key.encode())

    def host_fits(self, host: str) -> bool:
        """Return whether a header `Host` names this machine; outside loopback the key decides."""
        if not self.on_loopback:
            return True
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name in LOOPBACK

    def origin_fits(self, origin: str | None) -> bool:
        """Return whether a page may send requests; programs that are no browser name no origin."""
        return origin is None or "*" in self.origins or origin in self.origins

    def cross_origin_headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers by which a browser lets a page of an allowed origin read an answer."""
        if origin is None:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": "authorization, content-type",
            "Access-Control-Max-Age": "600",
            "Vary": "Origin",
        }


def _origin_fault(origin: str) -> str | None:
    """Return what is wrong with an origin, or None."""
    parts = urlsplit(origin)
    if origin == "*" or (parts.scheme in ("http", "https") and parts.netloc and not parts.path):
        return None
    return f"allow-origin {origin!r} is none; it is written as http://localhost:3000, or * for all"
