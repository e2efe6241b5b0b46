"""The HTTP door: keys, model names and faults are settled here; llama.cpp makes the answers."""

import asyncio
import hmac
import json
import logging
import os
import secrets
import threading
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from strop.core.errors import ConfigError
from strop.serving.engine import Engine
from strop.serving.requests import RequestError, served_request

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LARGEST_BODY = 64 * 2**20
_LONGEST_EVENT = 16 * 2**20
_SERVED = ("chat/completions", "completions")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """Which engine answers for a model, with which of its adapters."""

    engine: Engine
    adapter: int | None = None


class Gateway:
    """OpenAI's chat, completion and model routes over one or several engines.

    Args:
        routes: the models by the names that requests give.
        host: the address to listen on.
        port: 0 lets the system choose.
        api_key: what requests must carry; None asks for none on loopback, and makes a key
            elsewhere.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        api_key: str | None = None,
    ) -> None:
        self.routes = dict(routes)
        self.host, self.port = host, port
        outside = host not in LOOPBACK
        self.api_key = secrets.token_urlsafe(24) if outside and api_key is None else api_key
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._runner = self._wait(self._start())
        except OSError as e:
            self._stop_loop()
            raise ConfigError(
                f"{host}:{port} cannot be listened on ({os.strerror(e.errno or 0)}); choose another"
            ) from e

    @property
    def address(self) -> str:
        """Where it listens, as `http://HOST:PORT`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Stop listening; answers under way are given up."""
        self._wait(self._end())
        self._stop_loop()

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> web.AppRunner:
        self._client = ClientSession(timeout=ClientTimeout(total=None), read_bufsize=_LONGEST_EVENT)
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._guarded])
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        for name in _SERVED:
            app.router.add_post(f"/v1/{name}", self._completed)
        # A client that hangs up ends its handler, which hangs up on llama.cpp, which stops.
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, self.host, self.port)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            await self._client.close()
            raise
        self.port = runner.addresses[0][1]
        return runner

    async def _end(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse what has no key, and give every fault OpenAI's form."""
        if self.api_key is not None and request.path != "/health":
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.api_key.encode()):
                return _fault(401, "the API key is missing or wrong", "invalid_api_key")
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return _fault(413, f"a request may have {_LARGEST_BODY // 2**20} MiB", "too_large")
        except web.HTTPException as e:
            return _fault(e.status, f"{request.method} {request.path}: {e.reason}", "not_served")

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _models(self, request: web.Request) -> web.Response:
        known = [{"id": name, "object": "model", "owned_by": "strop"} for name in self.routes]
        return web.json_response({"object": "list", "data": known})

    async def _completed(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError) as e:
            return _fault(400, f"the request is not valid JSON: {e}", "invalid_json")
        if not isinstance(body, dict):
            return _fault(400, "the request is not a JSON object", "invalid_json")
        name = body.get("model") or next(iter(self.routes))
        route = self.routes.get(name) if isinstance(name, str) else None
        if route is None:
            known = ", ".join(self.routes)
            return _fault(404, f"there is no model {name!r}; known are {known}", "model_not_found")
        try:
            body = served_request(body, request.path, name, route.engine)
        except RequestError as e:
            return _fault(400, str(e), e.code, e.param)
        asked = {**body, "model": name, "lora": route.engine.weights_of(route.adapter)}
        if not asked["lora"]:
            del asked["lora"]
        try:
            url = f"{route.engine.address}{request.path}"
            async with self._client.post(url, json=asked) as found:
                if found.content_type == "text/event-stream":
                    return await _passed_on(request, found.content, name)
                made = json.loads(await found.read())
                return web.json_response(_named(made, name), status=found.status)
        except ClientError as e:
            logger.warning("the engine of %s failed: %s", name, e)
            return _fault(502, f"the engine of {name} failed: {e}", "engine_failed")


async def _passed_on(
    request: web.Request, events: AsyncIterable[bytes], name: str
) -> web.StreamResponse:
    """Give a stream of events on as it comes."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    response.headers["Cache-Control"] = "no-cache"
    await response.prepare(request)
    async for line in events:
        if line.startswith(b"data: {"):
            event = _named(json.loads(line[len(b"data: ") :]), name)
            line = b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n"
        await response.write(line)
    await response.write_eof()
    return response


def _named(made: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an answer under the name the model was asked for by."""
    return {**made, "model": name} if "model" in made else made


def _fault(status: int, message: str, code: str, param: str | None = None) -> web.Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return web.json_response({"error": error}, status=status)
