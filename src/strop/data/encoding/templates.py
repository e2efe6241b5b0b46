"""Chat templates of model families, for tokenizers that carry none.

A family is a row of `CHAT_TEMPLATES` and a file in `families/`.
"""

import difflib
import json
import re
import weakref
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cache
from importlib import resources
from typing import Any

from strop.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Family:
    """Chat template of a family of models, and the marks of its tokenizers."""

    template: str
    """File in `families/`, without its suffix."""
    marks: tuple[str, ...] = ()
    """Added tokens of all its tokenizers; empty if the family has no special tokens."""
    name_pattern: str = ""
    """Pattern of model names, for families without special tokens."""


CHAT_TEMPLATES = {
    "phi4": Family("phi4", ("<|im_start|>", "<|im_sep|>", "<|im_end|>")),
    "qwen3": Family("qwen3", ("<|im_start|>", "<|im_end|>", "<think>", "</tool_response>")),
    "qwen2_5": Family("qwen2_5", ("<|im_start|>", "<|im_end|>", "<tool_call>", "<|fim_pad|>")),
    "chatml": Family("chatml", ("<|im_start|>", "<|im_end|>")),
    "llama3_1": Family(
        "llama3_1", ("<|start_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>")
    ),
    "llama3": Family("llama3", ("<|start_header_id|>", "<|eot_id|>")),
    "gemma": Family("gemma", ("<start_of_turn>", "<end_of_turn>")),
    "phi3": Family("phi3", ("<|user|>", "<|assistant|>", "<|end|>")),
    "mistral_v7_tekken": Family(
        "mistral_v7_tekken", ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "<SPECIAL_20>")
    ),
    "mistral_v7": Family("mistral_v7", ("[INST]", "[/INST]", "[SYSTEM_PROMPT]")),
    "mistral_v3_tekken": Family("mistral_v3_tekken", ("[INST]", "[/INST]", "<SPECIAL_20>")),
    "mistral_v3": Family("mistral_v3", ("[INST]", "[/INST]")),
    "mistral_v1": Family("mistral_v1", name_pattern=r"mi[sx]tral.*v0\.[12]"),
    "llama2": Family("llama2", name_pattern=r"llama-?_?2.*chat"),
    "vicuna": Family("vicuna", name_pattern=r"vicuna"),
    "zephyr": Family("zephyr", name_pattern=r"zephyr"),
    "alpaca": Family("alpaca", name_pattern=r"alpaca"),
}
"""Name of each family -> its template; families with more marks come first."""


@cache
def family_template(name: str) -> str:
    """Return the template of a family.

    Raises:
        ConfigError: no family has this name.
    """
    if name not in CHAT_TEMPLATES:
        close = difflib.get_close_matches(name, CHAT_TEMPLATES, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"{name!r} is no family of templates; known are {', '.join(CHAT_TEMPLATES)}{hint}"
        )
    folder = resources.files("strop.data.encoding") / "families"
    return (folder / f"{CHAT_TEMPLATES[name].template}.jinja").read_text("utf-8")


def family_of(tokenizer: Any) -> str | None:
    """Return the family that the tokenizer's added tokens or its name show, or None."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    return family_of_marks(added, str(tokenizer.name_or_path or ""))


def family_of_marks(added: set[str], title: str) -> str | None:
    """Return the family that added tokens show, else the name of a model, or None."""
    for name, family in CHAT_TEMPLATES.items():
        if family.marks and added.issuperset(family.marks):
            return name
    for name, family in CHAT_TEMPLATES.items():
        if family.name_pattern and re.search(family.name_pattern, title.lower()):
            return name
    return None


def templates_of(tokenizer: Any) -> dict[str, str]:
    """Return the chat templates of the tokenizer by name; a single one is `default`."""
    carried = tokenizer.chat_template
    if isinstance(carried, str):
        return {"default": carried}
    if isinstance(carried, (list, tuple)):  # as tokenizer_config.json lists them
        return {str(each["name"]): str(each["template"]) for each in carried}
    return dict(carried or {})


def template_of(tokenizer: Any, *, tools: bool = False) -> str | None:
    """Return the chat template that transformers would take, else the family's, else None.

    Args:
        tokenizer: with one template, several by name, or none.
        tools: whether the conversation may call tools; then the one named `tool_use` comes first.
    """
    carried = templates_of(tokenizer)
    if tools and "tool_use" in carried:
        return carried["tool_use"]
    if carried:
        return carried.get("default")
    family = family_of(tokenizer)
    return None if family is None else family_template(family)


_days: "weakref.WeakKeyDictionary[Any, date]" = weakref.WeakKeyDictionary()
"""Tokenizer -> the day that its chat template writes as today's."""


def render_on(tokenizer: Any, day: date | None) -> None:
    """Let the tokenizer's chat template write `day` as today's from now on; None for the real one."""
    if day is None:
        _days.pop(tokenizer, None)
    else:
        _days[tokenizer] = day


def day_of(tokenizer: Any) -> date | None:
    """Return the day that the tokenizer's chat template writes as today's; None for the real one."""
    return _days.get(tokenizer)


_DATED = re.compile(r"""\bstrftime_now\(\s*(?:format\s*=\s*)?(['"])([^'"\\]*)\1\s*\)""")


def writes_day(template: str) -> bool:
    """Return whether a chat template writes today's date in a form that `on_day` knows."""
    return _DATED.search(template) is not None


def on_day(template: str, day: date) -> str:
    """Return a chat template that writes `day` where it would write today's date.

    For programs that take no day: each `strftime_now("...")` becomes the text of that day.
    """
    start = datetime.combine(day, time())
    return _DATED.sub(lambda match: json.dumps(start.strftime(match[2])), template)
