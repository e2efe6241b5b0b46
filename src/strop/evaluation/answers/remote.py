"""A model at an OpenAI-compatible address, which answers chats."""

import dataclasses
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from strop.core.errors import ConfigError


class UnreachableError(Exception):
    """The address does not answer at all."""


@dataclasses.dataclass(slots=True)
class RemoteModel:
    """A model that is asked over HTTP."""

    url: str
    """Address, such as `http://localhost:8080/v1`."""
    model: str | None
    """Its name there; None takes the first that the address lists, when it is first asked."""
    key: str | None
    """What the address asks for."""
    timeout: float
    """Seconds for one answer."""
    flag: str
    """By which the address was given, for messages."""

    def __post_init__(self) -> None:
        """Check the address.

        Raises:
            ConfigError: it is no address of a web server.
        """
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise ConfigError(
                f"--{self.flag} is {self.url!r}; write it as http://localhost:8080/v1"
            )

    def reply(
        self, messages: Sequence[dict[str, Any]], *, max_tokens: int, temperature: float = 0.0
    ) -> str:
        """Return the answer to a chat.

        Raises:
            UnreachableError: the address does not answer, or refuses.
            ValueError: it answers with something else.
        """
        self.model = self.model or self._first_model()
        body = {
            "model": self.model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        reply = self._call("chat/completions", body)
        try:
            return str(reply["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as e:
            raise ValueError(f"sends no answer: {json.dumps(reply)[:120]}") from e

    def _first_model(self) -> str:
        reply = self._call("models", None)
        try:
            return str(reply["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as e:
            raise UnreachableError(f"lists no model; name one with --{self.flag}-model") from e

    def _call(self, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{path}", content, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as e:
            e.close()
            if e.code in (401, 403, 404):
                raise UnreachableError(f"refuses: {e.code} {e.reason}") from e
            raise ValueError(f"fails: {e.code} {e.reason}") from e
        except (OSError, http.client.HTTPException) as e:
            reason = getattr(e, "reason", None) or e
            raise UnreachableError(f"cannot be reached: {reason}") from e
        except ValueError as e:
            raise ValueError(f"sends no JSON: {e}") from e
