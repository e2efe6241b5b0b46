"""What a gateway sends: answers of llama.cpp under the model's name, and faults in OpenAI's form."""

import json
from collections.abc import AsyncIterable
from typing import Any

from aiohttp import web

from strop.serving.documents import Prepared

_END = b"data: [DONE]"


async def passed_on(
    request: web.Request,
    events: AsyncIterable[bytes],
    name: str,
    headers: dict[str, str],
    prepared: Prepared,
) -> web.StreamResponse:
    """Give a stream of events on as it comes; one about documents, if any, before the last."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **headers})
    response.headers["Cache-Control"] = "no-cache"
    await response.prepare(request)
    text, event = "", dict[str, Any]()
    async for line in events:
        if line.startswith(b"data: {"):
            event = named(json.loads(line[len(b"data: ") :]), name)
            text += "".join(str(c.get("delta", {}).get("content") or "") for c in _choices(event))
            line = _event(event)
        elif line.startswith(_END) and (fields := prepared.fields(text)):
            await response.write(_event({**event, "choices": [], **fields}) + b"\n")
        await response.write(line)
    await response.write_eof()
    return response


def _choices(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [choice for choice in event.get("choices") or () if isinstance(choice, dict)]


def _event(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n"


def answered(answer: dict[str, Any], name: str, prepared: Prepared) -> web.Response:
    """Return a whole answer, with what was shown to the model."""
    choices = _choices(answer)
    message = choices[0].get("message") if choices else None
    text = str(message.get("content") or "") if isinstance(message, dict) else ""
    return web.json_response({**named(answer, name), **prepared.fields(text)})


def named(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an answer under the name that the request gave the model."""
    return {**answer, "model": name} if "model" in answer else answer


def engine_fault(status: int, answer: Any) -> web.Response:
    """Return what llama.cpp refuses in OpenAI's form, whose codes are texts.

    It answers 500 to values that it cannot read; those are the client's, which would try 500 again.
    """
    error = answer.get("error") if isinstance(answer, dict) else None
    error = error if isinstance(error, dict) else {}
    kind = str(error.get("type") or "invalid_request_error")
    message = str(error.get("message") or answer)
    if status == 500:
        status, kind = 400, "invalid_value"
    return fault(status, message, kind)


def fault(status: int, message: str, code: str, param: str | None = None) -> web.Response:
    """Return a fault in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return web.json_response({"error": error}, status=status)
