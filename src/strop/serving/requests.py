"""Parameters that llama.cpp would drop with 200: carried out here, or refused with the reason."""

from collections.abc import Mapping
from typing import Any

from strop.core.errors import DataError
from strop.serving.engine import Engine
from strop.serving.json_schema import dropped, impossible
from strop.serving.rendering import check_rendering

_MEDIA = ("image_url", "input_audio", "input_video", "video_url", "image", "audio", "video")
_FORMATS = ("text", "json_object", "json_schema")
_CHAT_ONLY = ("response_format", "json_schema", "tools", "tool_choice")


class RequestError(Exception):
    """A request that cannot be served as asked; OpenAI's form names the parameter and a code."""

    def __init__(self, message: str, param: str, code: str = "unsupported_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def served_request(body: dict[str, Any], path: str, name: str, engine: Engine) -> dict[str, Any]:
    """Return a request as the engine is to have it.

    Args:
        body: the request.
        path: its route.
        name: of the model.
        engine: what answers.

    Raises:
        RequestError: a part of it could not have its effect.
    """
    count = body.get("n")
    if isinstance(count, int) and count > engine.slots:
        raise RequestError(
            f"n is {count}, and this server makes {engine.slots} answers at once; ask for fewer, or "
            f"start it with --slots {count}",
            "n",
        )
    if str(body.get("grammar", "")).lstrip().startswith("%llguidance"):
        raise RequestError("a grammar is written in GBNF here, not for llguidance", "grammar")
    if not path.endswith("chat/completions"):
        for param in _CHAT_ONLY:
            if body.get(param):
                raise RequestError(f"{param} has its effect in /v1/chat/completions only", param)
        return body
    _check_parts(body.get("messages"), name)
    _check_format(body)
    return _with_tools(body, name, engine)


def check_size(body: Mapping[str, Any], engine: Engine) -> None:
    """Refuse a chat that takes too much to render; it takes as long as the rendering.

    Raises:
        RequestError: a limit of renderings is exceeded.
    """
    if (messages := body.get("messages")) is None:
        return
    try:
        variables = body.get("chat_template_kwargs")
        check_rendering(engine.template, messages, body.get("tools"), variables)
    except DataError as e:
        raise RequestError(str(e), "messages", "rendering_too_large") from e


def _check_parts(messages: Any, name: str) -> None:
    """Refuse images and the like, which no model here reads."""
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind in _MEDIA:
                raise RequestError(
                    f"a message has a part of type {kind}, and {name} reads text only", "messages"
                )


def _check_format(body: Mapping[str, Any]) -> None:
    """Refuse a form of the answer that would not be kept to."""
    response_format = body.get("response_format")
    param = "response_format"
    schema = body.get("json_schema")
    if response_format is not None:
        kind = response_format.get("type") if isinstance(response_format, Mapping) else None
        if kind not in _FORMATS:
            raise RequestError(
                f"response_format must be an object with a type, one of {', '.join(_FORMATS)}",
                param,
            )
        if kind == "json_schema":
            inner = response_format.get("json_schema")
            schema = inner.get("schema") if isinstance(inner, Mapping) else None
            if not isinstance(schema, Mapping):
                raise RequestError(
                    "response_format of type json_schema needs its schema in json_schema.schema",
                    param,
                )
        elif kind == "json_object" and "schema" in response_format:
            schema = response_format["schema"]
    _check_schema(schema, param)


def _check_schema(schema: Any, param: str) -> None:
    if faults := list(dropped(schema)):
        raise RequestError(
            "the JSON schema cannot be enforced as a whole; what no grammar here can express is "
            f"{'; '.join(faults)}",
            param,
            "invalid_json_schema",
        )


def _with_tools(body: dict[str, Any], name: str, engine: Engine) -> dict[str, Any]:
    """Return a chat whose tools and choice of them have their effect.

    llama.cpp takes a named function for "auto"; here it becomes the only tool, which is required.
    """
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    messages = body.get("messages")
    called = isinstance(messages, list) and any(
        isinstance(message, Mapping) and message.get("tool_calls") for message in messages
    )
    if called and not engine.writes_calls:
        raise RequestError(f"the chat template of {name} has no place for tool calls", "messages")
    for param in ("functions", "function_call"):
        if body.get(param):
            raise RequestError(f"{param} is OpenAI's former way; use tools and tool_choice", param)
    if choice in (None, "none", "auto") and not tools:
        return body
    if not isinstance(tools, list) or not tools:
        raise RequestError(
            f"tool_choice is {choice!r}, and the request has no tools", "tool_choice"
        )
    if choice == "none":
        return body
    if not engine.writes_tools:
        raise RequestError(
            f"the chat template of {name} has no place for tools, so the model would not see them; "
            "leave tools out, or serve a model that was trained with them",
            "tools",
        )
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping):
            continue
        if function.get("strict"):
            _check_schema(function.get("parameters"), "tools")
        if impossible(function.get("parameters")):
            raise RequestError("the parameters of a tool have bounds that nothing meets", "tools")
    if choice in (None, "auto", "required"):
        return body
    return {**body, "tools": [_named(tools, choice)], "tool_choice": "required"}


def _named(tools: list[Any], choice: Any) -> Any:
    """Return the tool that a choice names."""
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if name is None:
        raise RequestError(
            f"tool_choice is {choice!r}; it must be none, auto, required or a named function, "
            "{'type': 'function', 'function': {'name': ...}}",
            "tool_choice",
        )
    known = {
        tool["function"].get("name"): tool
        for tool in tools
        if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping)
    }
    if name not in known:
        raise RequestError(
            f"tool_choice names {name}, which is none of the tools: {', '.join(map(str, known))}",
            "tool_choice",
        )
    return known[name]
