"""Types and ranges of what a request may set, as OpenAI and llama.cpp document them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strop.serving.requests import RequestError

Penalty = Annotated[float, Field(ge=-2, le=2)]
Text = Annotated[str, Field(min_length=1)]


class _Open(BaseModel):
    """A part of a request; what is not named here is passed on to llama.cpp."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Message(_Open):
    role: Text
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class _Sampling(_Open):
    model: Text | None = None
    max_tokens: int | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stop: str | list[Text] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    logit_bias: dict[str, float] | list[Any] | None = None
    grammar: str | None = None
    reasoning_format: Literal["none", "auto", "deepseek", "deepseek-legacy"] | None = None
    user: str | None = None


class _Chat(_Sampling):
    messages: Annotated[list[_Message], Field(min_length=1)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class _Completion(_Sampling):
    prompt: str | list[Any]
    logprobs: int | None = None
    suffix: str | None = None


def check_parameters(body: dict[str, Any], *, chat: bool) -> None:
    """Refuse values of a wrong type or out of range, all of them in one error.

    Args:
        body: the request.
        chat: whether it is a chat; else a text to be continued.

    Raises:
        RequestError: a value cannot be what it says; the text names each with what it may be.
    """
    try:
        (_Chat if chat else _Completion).model_validate(body)
    except ValidationError as e:
        faults: dict[str, list[str]] = {}
        for error in e.errors(include_url=False, include_context=False, include_input=False):
            faults.setdefault(str(error["loc"][0]), []).append(_fault(error))
        reasons = "; ".join(" or ".join(dict.fromkeys(texts)) for texts in faults.values())
        raise RequestError(reasons, next(iter(faults)), "invalid_value") from None


def _fault(error: Any) -> str:
    """Return where a value lies and what is asked of it: `messages[0].role: Input should be …`."""
    place, *inner = error["loc"]
    kinds = ("str", "list[", "dict[", "int", "float", "bool")  # branches of a union, no places
    for part in inner:
        if isinstance(part, int):
            place = f"{place}[{part}]"
        elif not str(part).startswith(kinds):
            place = f"{place}.{part}"
    return f"{place}: {error['msg'][0].lower()}{error['msg'][1:]}"
