"""Compares chats by llama.cpp's own server: how it renders them, and what it answers."""

import dataclasses
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strop.exporting.certify.findings import Findings, body
from strop.exporting.certify.prompt import (
    Prompt,
    excerpt,
    other_date,
    other_number,
    with_text_arguments,
)
from strop.exporting.certify.reference import NEW_TOKENS, ReferenceOutputs

_LIKELIEST = {"temperature": 0, "n_predict": NEW_TOKENS, "return_tokens": True}
"""Parameters of an answer of likeliest tokens."""
_NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
SECONDS = 1500
"""Time limit of one answer; the whole comparison has another."""


class ChatServer:
    """llama.cpp's server on one file, at a loopback port."""

    def __init__(self, file: Path, context: int, adapter: Path | None = None) -> None:
        """Open the file, and an adapter over it if there is one."""
        import xllamacpp

        settings = xllamacpp.CommonParams()
        settings.model.path = str(file)
        settings.n_ctx, settings.n_parallel, settings.warmup = context, 1, False
        settings.verbosity = 0
        if adapter is not None:
            lora = xllamacpp.CommonAdapterLoraInfo()
            lora.path, lora.scale = str(adapter), 1.0
            settings.lora_adapters = [lora]
        self._server = xllamacpp.Server(settings)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return what the server answers to a request."""
        request = urllib.request.Request(
            f"{self._server.listening_address}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return dict(json.loads(answer.read()))

    def rendered(
        self, messages: Sequence[dict[str, Any]], tools: Any = None, **more: Any
    ) -> tuple[str, list[int]]:
        """Return text and tokens of a chat up to its answer, by the template in the file."""
        chat: dict[str, Any] = {"messages": with_text_arguments(messages)}
        if tools:
            chat["tools"] = [
                t if "function" in t else {"type": "function", "function": t} for t in tools
            ]
        text = str(self.post("/apply-template", {**chat, **more})["prompt"])
        body = {"content": text, "add_special": True, "parse_special": True}
        return text, list(self.post("/tokenize", body)["tokens"])

    def answer(self, chat: list[dict[str, str]]) -> tuple[list[int], bool]:
        """Return the tokens of the likeliest answer to a chat, and whether it ended.

        They are the tokens that were sampled. The log-probabilities of a reply lack those that end
        inside a character, and are left out of it where there is no text.
        """
        body = {"messages": chat, "verbose": True}
        reply = self.post("/v1/chat/completions", body | _LIKELIEST)
        return list(reply["__verbose"]["tokens"]), reply["choices"][0]["finish_reason"] != "length"

    def continued(self, ids: list[int]) -> tuple[list[int], bool]:
        """Return the likeliest tokens behind a prompt of tokens, and whether they ended."""
        reply = self.post("/completion", {"prompt": ids} | _LIKELIEST)
        return list(reply["tokens"]), reply["stop_type"] != "limit"


def compare_chats(server: ChatServer, reference: ReferenceOutputs, findings: Findings) -> None:
    """Compare renderings and answers of chats of texts."""
    for chat, text, ids, right in zip(
        reference.chats,
        reference.chat_texts,
        reference.chat_ids,
        reference.answers,
        strict=True,
    ):
        prompt = Prompt(what="a chat", messages=chat, tools=None, text=text, ids=ids, of_run=True)
        alike = _compare(server, prompt, findings)
        answer, ended = server.answer(chat) if alike else server.continued(ids)
        findings.compare_answer(right, answer, ended, reference.ends)


def compare_prompts(server: ChatServer, reference: ReferenceOutputs, findings: Findings) -> None:
    """Compare renderings of chats with tools, calls and reasoning."""
    for prompt in reference.prompts:
        try:
            _compare(server, prompt, findings)
        except urllib.error.HTTPError as e:
            _add(findings, prompt, f"llama.cpp does not render {prompt.what}: {body(e)}")


def _compare(server: ChatServer, prompt: Prompt, findings: Findings) -> bool:
    """Compare a rendering token by token, and say why it differs; return whether it does not."""
    text, ids = server.rendered(prompt.messages, prompt.tools)
    if ids == prompt.ids or text == prompt.text:
        findings.compare_ids(f"{prompt.what}, rendered by the file's template,", ids, prompt.ids)
        return ids == prompt.ids
    findings.tokens_checked += len(prompt.ids)
    right = prompt
    rebuilt = dataclasses.replace(prompt, text=prompt.with_plain_tools)
    if prompt.with_plain_tools and (text == rebuilt.text or other_number(rebuilt, text)):
        right = rebuilt
        findings.note(
            "llama.cpp rebuilds tools of their name, description and parameters: "
            f"{prompt.what} becomes {excerpt(prompt.text, text)}; train with tools of these three "
            "entries, in this order",
            once="llama.cpp rebuilds tools",
        )
    if text == right.text:
        return False
    if numbers := other_number(right, text):
        findings.note(
            f"llama.cpp writes numbers in prompts otherwise than training did, {numbers[1]} for "
            f"{numbers[0]} ({prompt.what}): it matters where tools or earlier calls hold such "
            "numbers; write them as texts or whole numbers there",
            once="llama.cpp writes numbers",
        )
    elif dates := other_date(prompt, text):
        findings.note(
            f"llama.cpp writes today's date into prompts, {dates[1]}, where training wrote "
            f"{dates[0]}; other programs can be given it as date_string",
            once="llama.cpp writes today's date",
        )
    elif server.rendered(prompt.messages, prompt.tools, **_NO_THINKING)[1] == prompt.ids:
        findings.fault(
            "llama.cpp renders chats with enable_thinking, which training left unset, so that "
            f"{prompt.what} becomes {excerpt(prompt.text, text)}; set enable_thinking to false in "
            "the chat template before training, or ask with chat_template_kwargs "
            '{"enable_thinking": false}',
            once="llama.cpp renders chats with enable_thinking",
        )
    else:
        sentence = f"{prompt.what} is rendered otherwise by llama.cpp: {excerpt(prompt.text, text)}"
        _add(findings, prompt, sentence)
    return False


def _add(findings: Findings, prompt: Prompt, sentence: str) -> None:
    """Add a difference as a fault where the run's rows have such chats, else as a note."""
    if prompt.of_run or prompt.tools is None:
        findings.faults.append(sentence)
    else:
        findings.notes.append(f"{sentence}; the run's own rows have no such chat")
