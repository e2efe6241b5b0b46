"""Chat formats written by hand as pieces, and where a token lies by its bytes: the tests' truth."""

from collections.abc import Callable
from typing import Any

from tokenizers import pre_tokenizers

Pieces = list[tuple[str, bool]]
"""The text in order; True where the model writes it."""


def chatml(messages: list[dict[str, Any]], default: str = "") -> Pieces:
    pieces: Pieces = []
    if default and messages[0]["role"] != "system":
        pieces.append((f"<|im_start|>system\n{default}<|im_end|>\n", False))
    for m in messages:
        ours = m["role"] == "assistant"
        pieces += [
            (f"<|im_start|>{m['role']}\n", False),
            (m["content"] + "<|im_end|>", ours),
            ("\n", False),
        ]
    return pieces


def smollm2(messages: list[dict[str, Any]]) -> Pieces:
    return chatml(messages, "You are a helpful AI assistant named SmolLM")


def qwen3(messages: list[dict[str, Any]]) -> Pieces:
    last_user = max(i for i, m in enumerate(messages) if m["role"] == "user")
    pieces: Pieces = []
    for i, m in enumerate(messages):
        content = m["content"]
        if m["role"] == "assistant":
            thought = ""
            if "</think>" in content:
                before = content.split("</think>")[0]
                thought = before.rstrip("\n").split("<think>")[-1].lstrip("\n").strip("\n")
                content = content.split("</think>")[-1].lstrip("\n")
            if i > last_user:
                content = f"<think>\n{thought}\n</think>\n\n" + content.lstrip("\n")
        pieces += [
            (f"<|im_start|>{m['role']}\n", False),
            (content + "<|im_end|>", m["role"] == "assistant"),
            ("\n", False),
        ]
    return pieces


def gemma3(messages: list[dict[str, Any]]) -> Pieces:
    pieces: Pieces = [("<s>", False)]
    prefix = ""
    if messages[0]["role"] == "system":
        prefix, messages = messages[0]["content"] + "\n\n", messages[1:]
    for i, m in enumerate(messages):
        ours = m["role"] == "assistant"
        pieces += [
            (f"<start_of_turn>{'model' if ours else m['role']}\n", False),
            (prefix if i == 0 else "", False),
            (m["content"].strip() + "<end_of_turn>", ours),
            ("\n", False),
        ]
    return pieces


def llama3(messages: list[dict[str, Any]]) -> Pieces:
    pieces: Pieces = [("<s>", False)]
    for m in messages:
        pieces += [
            (f"<|start_header_id|>{m['role']}<|end_header_id|>\n\n", False),
            (m["content"].strip() + "<|eot_id|>", m["role"] == "assistant"),
        ]
    return pieces


def phi3(messages: list[dict[str, Any]]) -> Pieces:
    pieces: Pieces = []
    for m in messages:
        if m["role"] == "system" and not m["content"]:
            continue
        pieces += [
            (f"<|{m['role']}|>\n", False),
            (m["content"] + "<|end|>", m["role"] == "assistant"),
            ("\n", False),
        ]
    return [*pieces, ("<|endoftext|>", False)]


FORMATS: dict[str, Callable[[list[dict[str, Any]]], Pieces]] = {
    "smollm2": smollm2,
    "qwen3": qwen3,
    "gemma3": gemma3,
    "llama3": llama3,
    "phi3_5": phi3,
}

_BYTE_OF = dict.fromkeys(pre_tokenizers.ByteLevel.alphabet())


def expected(pieces: Pieces, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return ids and labels of the pieces, counting each token's bytes instead of using offsets."""
    text = "".join(piece for piece, _ in pieces)
    loss = [ours for piece, ours in pieces for _ in piece.encode()]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    labels, at = [], 0
    for token in ids:
        name = tokenizer.convert_ids_to_tokens(token)
        special = token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder
        width = len(name.encode()) if special else len(name)
        span = loss[at : at + width]
        labels.append(token if all(span) else -100)
        at += width
    assert at == len(loss)
    return ids, labels
