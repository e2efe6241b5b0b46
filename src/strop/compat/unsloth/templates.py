"""Chat templates of families put on a tokenizer, and templates made from an example of a turn."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from strop.compat.unsloth.portable import portable
from strop.core.errors import ConfigError
from strop.data.encoding.templates import CHAT_TEMPLATES as FAMILIES
from strop.data.encoding.templates import family_template

log = logging.getLogger("strop")

_FAMILY_OF = {
    "llama-3": "llama3",
    "llama-3.1": "llama3_1",
    "llama-31": "llama3_1",
    "llama-3.2": "llama3_1",
    "llama-3.3": "llama3_1",
    "llama": "llama2",
    "mistral": "mistral_v3",
    "gemma2": "gemma",
    "gemma-2": "gemma",
    "gemma-3": "gemma",
    "gemma3": "gemma",
    "phi-3": "phi3",
    "phi-35": "phi3",
    "phi-3.5": "phi3",
    "phi-4": "phi4",
    "qwen-2.5": "qwen2_5",
    "qwen-25": "qwen2_5",
    "qwen25": "qwen2_5",
    "qwen2.5": "qwen2_5",
    "qwen-3": "qwen3",
    "qwen3-instruct": "qwen3",
    "qwen3-thinking": "qwen3",
}
CHAT_TEMPLATES = sorted({*_FAMILY_OF, *FAMILIES})
"""Names that `get_chat_template` takes."""

_ENDS = {
    "llama3": "<|eot_id|>",
    "llama3_1": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "phi3": "<|end|>",
    "phi4": "<|im_end|>",
    "qwen2_5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "chatml": "<|im_end|>",
}
"""The token that ends an answer."""
_PLAIN = "### Instruction:\n{INPUT}\n\n### Response:\n{OUTPUT}\n\n"


def get_chat_template(
    tokenizer: Any,
    chat_template: str | tuple[str, str] = "chatml",
    mapping: Mapping[str, str] | None = None,
    map_eos_token: bool = True,
    system_message: str | None = None,
    **further: Any,
) -> Any:
    """Return the tokenizer with the chat template of a family.

    Args:
        tokenizer: changed by this call.
        chat_template: one of `CHAT_TEMPLATES`, or a Jinja template with its end token.
        mapping: what rows call role, content, user and assistant.
        map_eos_token: let the token that ends an answer be the tokenizer's end token.
        system_message: written first where a chat has no system message.
        **further: without effect.

    Raises:
        ConfigError: no family has this name; the text has those that are.
    """
    if isinstance(chat_template, str):
        family = _FAMILY_OF.get(chat_template.lower(), chat_template.lower())
        if family not in FAMILIES:
            raise ConfigError(
                f"chat_template is {chat_template!r}; choose from {', '.join(CHAT_TEMPLATES)}, or give "
                "a Jinja template and its end token: (template, end)"
            )
        text, end = family_template(family), _ENDS.get(family)
    else:
        text, end = chat_template
    known = tokenizer.get_vocab()
    if map_eos_token and end in known:
        tokenizer.eos_token = end
    elif end is not None and end not in known:
        log.warning(
            "the vocabulary has no token %s: the template's marks are written as plain text", end
        )
    before = _renaming(mapping or {}) + _beginning(system_message)
    tokenizer.chat_template = before + text
    return portable(tokenizer)


def _renaming(mapping: Mapping[str, str]) -> str:
    """Return Jinja that gives messages under other names the usual ones."""
    names = {name: mapping.get(name, name) for name in ("role", "content", "user", "assistant")}
    if all(name == other for name, other in names.items()):
        return ""
    role, content, user, assistant = (json.dumps(other) for other in names.values())
    return (
        "{%- set usual = namespace(messages=[]) -%}{%- for m in messages -%}"
        f"{{%- set who = {{{user}: 'user', {assistant}: 'assistant'}} -%}}"
        f"{{%- set name = m[{role}] if {role} in m else m['role'] -%}}"
        f"{{%- set text = m[{content}] if {content} in m else m['content'] -%}}"
        "{%- set usual.messages = usual.messages + [{'role': who.get(name, name), 'content': text}] -%}"
        "{%- endfor -%}{%- set messages = usual.messages -%}"
    )


def _beginning(system_message: str | None) -> str:
    """Return Jinja that puts a system message first where there is none."""
    if system_message is None:
        return ""
    text = json.dumps(system_message)
    return (
        "{%- if messages[0]['role'] != 'system' -%}"
        f"{{%- set messages = [{{'role': 'system', 'content': {text}}}] + messages -%}}{{%- endif -%}}"
    )


def construct_chat_template(
    tokenizer: Any = None,
    chat_template: str = _PLAIN,
    default_system_message: str = "",
    extra_eos_tokens: Any = None,
) -> str:
    """Return Jinja that writes chats as an example of a turn, or of two, is written.

    Args:
        tokenizer: its begin token goes first unless the example has it, its end token after answers.
        chat_template: text with {INPUT} and {OUTPUT}, once or twice, and {SYSTEM} at most once.
        default_system_message: in place of {SYSTEM} where a chat has none.
        extra_eos_tokens: without effect.

    Raises:
        ConfigError: {INPUT} or {OUTPUT} is absent, or they stand in another order.
    """
    first, _, rest = chat_template.partition("{INPUT}")
    between, _, after = rest.partition("{OUTPUT}")
    if "{OUTPUT}" not in rest or "{OUTPUT}" in first or "{INPUT}" in between:
        raise ConfigError(
            "chat_template needs {INPUT} and then {OUTPUT}, and may have {SYSTEM} before them"
        )
    lead = ""
    if "{INPUT}" in after:  # the second turn shows what stands between turns, and what ends them
        joint, _, second = after.partition("{INPUT}")
        last = second.partition("{OUTPUT}")[2]
        after = last if joint.startswith(last) else ""
        lead = _common_end(first.rpartition("{SYSTEM}")[2], joint.removeprefix(after))
    elif "{SYSTEM}" not in first:
        lead = first[first.rstrip().rfind("\n\n") + 2 :] if "\n\n" in first.rstrip() else ""
    head = first.removesuffix(lead)
    end = getattr(tokenizer, "eos_token", None) or ""
    if not after.strip().startswith(end):
        after = end + after
    return _jinja(head, lead, between, after, default_system_message)


def _common_end(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return one[len(one) - length :]


def _jinja(head: str, lead: str, between: str, after: str, system: str) -> str:
    before, _, behind = head.partition("{SYSTEM}")
    start = f"{{{{ {json.dumps(before)} }}}}"
    if "{SYSTEM}" in head:
        start += f"{{{{ system }}}}{{{{ {json.dumps(behind)} }}}}"
    written = {name: json.dumps(text) for name, text in
               (("lead", lead), ("between", between), ("after", after), ("system", system))}  # fmt: skip
    return (
        f"{{%- set system = {written['system']} -%}}{{%- set chat = messages -%}}"
        "{%- if messages[0]['role'] == 'system' -%}{%- set system = messages[0]['content'] -%}"
        "{%- set chat = messages[1:] -%}{%- endif -%}"
        f"{start}{{%- for m in chat -%}}"
        f"{{%- if m['role'] == 'user' -%}}{{{{ {written['lead']} + m['content'] + {written['between']} }}}}"
        f"{{%- else -%}}{{{{ m['content'] + {written['after']} }}}}{{%- endif -%}}{{%- endfor -%}}"
    )


def apply_chat_template(
    dataset: Any,
    tokenizer: Any = None,
    chat_template: str = _PLAIN,
    default_system_message: str = "",
    extra_eos_tokens: Any = None,
) -> Any:
    """Return rows with a column `text`: their conversations, written as an example of a turn is.

    Args:
        dataset: of `datasets`, with a column `conversations`.
        tokenizer: gets the template.
        chat_template: see `construct_chat_template`.
        default_system_message: see there.
        extra_eos_tokens: without effect.
    """
    tokenizer.chat_template = construct_chat_template(
        tokenizer, chat_template, default_system_message
    )
    template = tokenizer.apply_chat_template

    def rendered(rows: dict[str, list[Any]]) -> dict[str, list[str]]:
        chats = rows.get("conversations") or rows["messages"]
        return {"text": [template(chat, tokenize=False) for chat in chats]}

    return dataset.map(rendered, batched=True, desc="writing chats")
