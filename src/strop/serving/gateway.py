"""HTTP gateway: checks keys, model names and requests; llama.cpp makes the answers."""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from aiohttp.http_exceptions import HttpProcessingError

from strop.core.errors import ConfigError
from strop.serving.access import Access
from strop.serving.documents import Documents, Prepared
from strop.serving.engine import Engine
from strop.serving.parameters import check_parameters
from strop.serving.replies import answered, engine_fault, fault, passed_on
from strop.serving.requests import RequestError, check_size, served_request

_LARGEST_BODY = 64 * 2**20
_LONGEST_EVENT = 16 * 2**20
_SERVED = ("chat/completions", "completions")
_PATIENCE = 30.0
"""Seconds that a request may take to arrive, and a connection may be open without one."""

logger = logging.getLogger(__name__)


def _no_fault_of_a_client(record: logging.LogRecord) -> bool:
    """Return whether a record is about this server: what is no HTTP is answered, and no news."""
    fault = record.exc_info and record.exc_info[1]
    return not isinstance(fault, HttpProcessingError | web.RequestPayloadError)


_http_logger = logging.getLogger(f"{__name__}.http")
_http_logger.addFilter(_no_fault_of_a_client)


@dataclass(frozen=True, slots=True)
class Route:
    """Engine that answers for a model, and the index of its adapter."""

    engine: Engine
    adapter: int | None = None


class Gateway:
    """OpenAI's chat, completion and model routes over one or several engines.

    Args:
        routes: the models by the names that requests give.
        port: 0 lets the system choose.
        access: the address to listen on, and who may ask; None: programs on this machine.
        documents: shown to models that chat, and searched.
        log: whether each request is logged.
        patience: seconds that a request may take to arrive, and a connection may be open without.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        port: int = 8080,
        access: Access | None = None,
        documents: Documents | None = None,
        log: bool = False,
        patience: float = _PATIENCE,
    ) -> None:
        if not 0 <= port < 2**16:
            raise ConfigError(
                f"port is {port}; it must be from 0, which takes any free one, to 65535"
            )
        self.routes, self.documents = dict(routes), documents
        self.access, self.port = access or Access(), port
        self._log, self._patience = log, patience
        self._answering: set[Any] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._runner = self._wait(self._start())
        except OSError as e:
            self._stop_loop()
            raise ConfigError(
                f"{self.access.host}:{port} cannot be listened on ({os.strerror(e.errno or 0)}); "
                "choose another"
            ) from e

    @property
    def address(self) -> str:
        """Address it listens on, as `http://HOST:PORT`."""
        host = f"[{self.access.host}]" if ":" in self.access.host else self.access.host
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
        # llama.cpp closes a connection that waits for seconds, perhaps while a request is sent
        once, endless = TCPConnector(force_close=True), ClientTimeout(total=None)
        self._client = ClientSession(connector=once, timeout=endless, read_bufsize=_LONGEST_EVENT)
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._guard])
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        for name in _SERVED:
            app.router.add_post(f"/v1/{name}", self._completed)
        for path in ("/search", "/v1/embeddings") if self.documents else ():
            app.router.add_post(path, self._of_documents)
        # A client that hangs up ends its handler, which hangs up on llama.cpp, which stops.
        runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=logger if self._log else None,
            access_log_format='%t %a "%r" %s %b %Tf',
            shutdown_timeout=0.1,
            logger=_http_logger,
        )
        await runner.setup()
        site = web.TCPSite(runner, self.access.host, self.port)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            await self._client.close()
            raise
        self.port = runner.addresses[0][1]
        self._closing_idle = asyncio.create_task(self._close_idle(runner))
        return runner

    async def _close_idle(self, runner: web.AppRunner) -> None:
        """Close connections without a request, which would keep others out."""
        idle_since: dict[Any, float] = {}
        while True:
            await asyncio.sleep(self._patience / 4)
            now = self._loop.time()
            server = runner.server
            open_ones = (
                {c.transport for c in server.connections if c.transport} if server else set()
            )
            idle_since = {t: idle_since.get(t, now) for t in open_ones - self._answering}
            for transport, since in idle_since.items():
                if now - since > self._patience:
                    transport.abort()

    async def _end(self) -> None:
        self._closing_idle.cancel()
        await self._runner.cleanup()
        await self._client.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse who may not ask, and give every fault OpenAI's form."""
        origin = request.headers.get("Origin")
        if refusal := self._refusal(request, origin):
            return refusal
        allowed = self.access.cross_origin_headers(origin)
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=allowed)
        self._answering.add(request.transport)
        try:
            response = await self._answer(request, handler)
        finally:
            self._answering.discard(request.transport)
        if not response.prepared:
            response.headers.update(allowed)
        return response

    def _refusal(self, request: web.Request, origin: str | None) -> web.Response | None:
        """Return why a request is not looked at, or None."""
        if not self.access.host_fits(request.host):
            text = f"this server is {self.address}, not {request.host}"
            return fault(403, text, "host_not_allowed")
        if not self.access.origin_fits(origin):
            text = f"pages of {origin} may not ask; start the server with --allow-origin {origin}"
            return fault(403, text, "origin_not_allowed")
        if request.method == "OPTIONS" or request.path == "/health":
            return None
        if not self.access.key_fits(request.headers.get("Authorization", "")):
            return fault(401, "the API key is missing or wrong", "invalid_api_key")
        return None

    async def _answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return fault(413, f"a request may have {_LARGEST_BODY // 2**20} MiB", "too_large")
        except web.HTTPException as e:
            return fault(e.status, f"{request.method} {request.path}: {e.reason}", "not_served")

    async def _body(self, request: web.Request) -> bytes:
        """Return what a request carries.

        Raises:
            RequestError: it does not arrive in time, or is not compressed as it says.
        """
        try:
            return await asyncio.wait_for(request.read(), self._patience)
        except TimeoutError:
            text = f"the request was not whole within {self._patience:.0f} s"
            raise RequestError(text, "", "request_timeout") from None
        except web.RequestPayloadError as e:
            text = "the body is not compressed as its Content-Encoding says"
            raise RequestError(text, "", "invalid_body") from e

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _models(self, request: web.Request) -> web.Response:
        known = [{"id": name, "object": "model", "owned_by": "strop"} for name in self.routes]
        return web.json_response({"object": "list", "data": known})

    async def _read(self, request: web.Request) -> dict[str, Any] | web.Response:
        """Return the object that a request carries, or the fault that answers it."""
        try:
            body = json.loads(await self._body(request))
        except RequestError as e:
            return fault(408 if e.code == "request_timeout" else 400, str(e), e.code)
        except (ValueError, RecursionError) as e:
            return fault(400, f"the request is not valid JSON: {e}", "invalid_json")
        if not isinstance(body, dict):
            return fault(400, "the request is not a JSON object", "invalid_json")
        return body

    async def _of_documents(self, request: web.Request) -> web.Response:
        """Answer a search, or a request for embeddings."""
        assert self.documents is not None
        body = await self._read(request)
        if isinstance(body, web.Response):
            return body
        work = self.documents.search if request.path == "/search" else self.documents.embeddings
        try:
            return web.json_response(await work(body))
        except RequestError as e:
            status = 503 if e.code == "index_unavailable" else 400
            return fault(status, str(e), e.code, e.param)

    async def _completed(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        if isinstance(body, web.Response):
            return body
        name = body.get("model") or next(iter(self.routes))
        route = self.routes.get(name) if isinstance(name, str) else None
        if route is None:
            known = ", ".join(self.routes)
            return fault(404, f"there is no model {name!r}; known are {known}", "model_not_found")
        try:
            check_parameters(body, chat=request.path.endswith("chat/completions"))
            body = served_request(body, request.path, name, route.engine)
            prepared = Prepared(body)
            if self.documents is not None and request.path.endswith("chat/completions"):
                prepared = await self.documents.prepared(body)
            await asyncio.to_thread(check_size, prepared.body, route.engine)
        except RequestError as e:
            return fault(400, str(e), e.code, e.param)
        forwarded = {**prepared.body, "model": name, "lora": route.engine.weights_of(route.adapter)}
        if not forwarded["lora"]:
            del forwarded["lora"]
        try:
            url = f"{route.engine.address}{request.path}"
            headers = route.engine.headers
            async with self._client.post(url, json=forwarded, headers=headers) as answer:
                if answer.content_type == "text/event-stream":
                    allowed = self.access.cross_origin_headers(request.headers.get("Origin"))
                    return await passed_on(request, answer.content, name, allowed, prepared)
                content = json.loads(await answer.read())
                if answer.status >= 400:
                    return engine_fault(answer.status, content)
                return answered(content, name, prepared)
        except ClientError as e:
            logger.warning("the engine of %s failed: %s", name, e)
            return fault(502, f"the engine of {name} failed: {e}", "engine_failed")
