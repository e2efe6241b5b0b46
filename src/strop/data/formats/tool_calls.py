"""Tools and tool calls of a record, in the form that templates take."""

import json
from typing import Any

from strop.data.formats.cells import FaultyRecordError, is_empty, listed, parsed_in
from strop.data.formats.forms import Arguments
from strop.data.formats.record import Record, RepeatedKeyError, object_of, type_in_words


def tools_in(record: Record) -> list[Any] | None:
    """Return the tools of a record as JSON schemas, or None if it has none."""
    column = next((c for c in ("tools", "functions") if not is_empty(record.get(c))), None)
    if column is None:
        return None
    value = record[column]
    offered = [tool for tool in listed(value, column) if not is_empty(tool)]
    if not offered:
        return None
    tools = [_tool(tool, number) for number, tool in enumerate(offered, 1)]
    if column == "functions":  # the first form of OpenAI's tool calls
        return [{"type": "function", "function": tool} for tool in tools]
    return tools


def _tool(tool: Any, number: int) -> dict[str, Any]:
    value = parsed_in(tool, f"tool {number}") if isinstance(tool, str) else tool
    if not isinstance(value, dict):
        raise FaultyRecordError(
            "bad_type", f"tool {number} is {type_in_words(value)}, not an object that describes it"
        )
    return value


def calls_of_text(text: str, number: int) -> list[dict[str, Any]]:
    """Return the calls that message `number` spells as JSON: one, or a list of them."""
    call = parsed_in(text, f"the function call in message {number}")
    calls = call if isinstance(call, list) else [call]
    return [{"type": "function", "function": c} for c in calls]


def listed_calls(calls: Any) -> list[Any]:
    """Return tool calls as a list; a single one may be an object or JSON text."""
    if isinstance(calls, str) and calls.lstrip().startswith("{"):
        calls = parsed_in(calls, "tool_calls")
    return [calls] if isinstance(calls, dict) else listed(calls, "tool_calls")


def call_in(call: Any, number: int) -> Any:
    """Return a tool call with its arguments as an object, the form that every template can write."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise FaultyRecordError("bad_type", f"a tool call in message {number} has no function name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        value = _arguments(arguments, number)
        arguments = Arguments(value, arguments) if isinstance(value, dict) else arguments
    normalized = {**function, "arguments": arguments}
    return {**call, "function": normalized} if "function" in call else normalized


def _arguments(text: str, number: int) -> Any:
    """Return the arguments that a call spells as JSON, or None if they are no JSON."""
    try:
        return json.loads(text, object_pairs_hook=object_of)
    except RepeatedKeyError as e:
        reason = f"the arguments of a tool call in message {number} are not usable JSON: {e}"
        raise FaultyRecordError("bad_json", reason) from e
    except (ValueError, RecursionError):
        return None
