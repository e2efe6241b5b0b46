"""Turns a fast tokenizer into the vocabulary that llama.cpp reads."""

import json
from collections.abc import Iterator
from typing import Any

from gguf import TokenType

from strop.core.errors import UnsupportedError
from strop.data.encoding.chat import chat_ids
from strop.data.encoding.templates import template_of, templates_of
from strop.models.assets import ModelAssets

_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITTERS = {
    ("ByteLevel",): "gpt-2",
    ("Digits", "ByteLevel"): "smollm",
    (_QWEN2,): "qwen2",
    (_TEKKEN,): "tekken",
    (_GPT4O,): "gpt-4o",
}
"""llama.cpp's name of each way to split text into words, by the tokenizer's own steps."""


def vocabulary(assets: ModelAssets, rows: int) -> dict[str, Any]:
    """Return the `tokenizer.` fields of a GGUF file.

    Args:
        assets: of the trained model.
        rows: of the embedding; tokens beyond the tokenizer's are marked unused.

    Raises:
        UnsupportedError: a kind of tokenizer that llama.cpp does not have, or that is not known.
    """
    backend = json.loads(assets.tokenizer.backend_tokenizer.to_str())
    model = backend["model"]
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise UnsupportedError(
            f"tokenizers of the kind {model.get('type')} cannot be written as GGUF; only byte-level "
            "BPE and SentencePiece's BPE can"
        )
    if not model["merges"]:
        raise UnsupportedError(
            "the tokenizer has no merges, each byte is a token of its own; llama.cpp reads no "
            "byte-level vocabulary without merges. Export --to merged instead"
        )
    del model["vocab"]  # hundreds of thousands of strings, which the tokenizer is asked for below
    tokens, types = _tokens(assets.tokenizer, backend, rows)
    fields: dict[str, Any] = {"ggml.tokens": tokens, "ggml.token_type": types}
    if model.get("byte_fallback"):
        fields["ggml.model"], fields["ggml.pre"] = "llama", "default"
        fields["ggml.scores"] = _scores(tokens, model["merges"])
        fields["ggml.add_space_prefix"] = _adds_space(assets.tokenizer)
    else:
        fields["ggml.model"], fields["ggml.pre"] = "gpt2", _splitter(backend)
        merges = model["merges"]
        fields["ggml.merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]
    fields |= _special(assets)
    fields |= _chat_templates(assets.tokenizer)
    return {f"tokenizer.{name}": value for name, value in fields.items() if value is not None}


def _tokens(tokenizer: Any, backend: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Return text and kind of every token, in the order of ids."""
    texts = {i: text for text, i in tokenizer.get_vocab().items()}
    if texts and max(texts) >= rows:
        raise UnsupportedError(
            f"the tokenizer has {max(texts) + 1} tokens and the model's embedding {rows} rows; "
            "resize the embedding before training"
        )
    added = {token["id"]: token["special"] for token in backend["added_tokens"]}
    unknown = backend["model"].get("unk_token")
    falls_back = backend["model"].get("byte_fallback")

    def kind(i: int) -> int:
        text = texts.get(i)
        if text is None:
            return int(TokenType.UNUSED)
        if falls_back and text == unknown:
            return int(TokenType.UNKNOWN)
        if i in added:
            return int(TokenType.CONTROL if added[i] else TokenType.USER_DEFINED)
        if falls_back and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return int(TokenType.BYTE)
        return int(TokenType.NORMAL)

    return [texts.get(i, f"[PAD{i}]") for i in range(rows)], [kind(i) for i in range(rows)]


def _scores(tokens: list[str], merges: list[Any]) -> list[float]:
    """Return SentencePiece's scores: llama.cpp joins the pair first whose token has the highest.

    A token's score is minus the place of the first merge that makes it, so the order is the same.
    """
    first: dict[str, int] = {}
    for place, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        first.setdefault("".join(pair), place)
    last = float(len(merges) + 1)
    return [-float(first.get(text, last)) for text in tokens]


def _adds_space(tokenizer: Any) -> bool:
    """Return whether a text gets a space before its first word."""
    tokens = tokenizer.backend_tokenizer.encode("a", add_special_tokens=False).tokens
    return bool(tokens) and tokens[0].startswith("▁")


def _splitter(backend: dict[str, Any]) -> str:
    steps = tuple(_steps(backend["pre_tokenizer"] or {}))
    name = SPLITTERS.get(steps)
    if steps == (_CL100K,):
        name = "llama-bpe" if backend["model"].get("ignore_merges") else "dbrx"
    if name is None:
        raise UnsupportedError(
            f"the tokenizer splits text by {' then '.join(steps) or 'nothing'}, for which no rule of "
            "llama.cpp is known, so it would cut texts into other tokens; export --to merged instead"
        )
    return name


def _steps(pre_tokenizer: dict[str, Any]) -> Iterator[str]:
    """Yield what decides where words end, in order."""
    kind = pre_tokenizer.get("type")
    if kind == "Sequence":
        for part in pre_tokenizer["pretokenizers"]:
            yield from _steps(part)
    elif kind == "Split":
        pattern = pre_tokenizer["pattern"]
        yield pattern.get("Regex") or f"text {pattern['String']!r}"
    elif kind == "Digits":
        yield "Digits" if pre_tokenizer["individual_digits"] else "runs of digits"
    elif kind != "ByteLevel" or pre_tokenizer.get("use_regex", True):
        yield str(kind)


def _special(assets: ModelAssets) -> dict[str, Any]:
    """Return the ids of special tokens, and whether texts begin and end with them."""
    tokenizer = assets.tokenizer
    ends = assets.ends
    eos = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else ends[0]
    more = [i for i in ends if i != eos]
    plain = tokenizer("a")["input_ids"]
    begins = len(plain) > 1 and plain[0] == tokenizer.bos_token_id
    if begins and template_of(tokenizer) is not None:
        # llama.cpp begins rendered chats so too; chats are what the model was trained on
        chat = chat_ids(tokenizer, [{"role": "user", "content": "a"}])
        begins = bool(chat) and chat[0] == tokenizer.bos_token_id
    return {
        "ggml.bos_token_id": tokenizer.bos_token_id,
        "ggml.eos_token_id": eos,
        "ggml.eot_token_id": more[0] if more else None,
        "ggml.eom_token_id": more[1] if len(more) > 1 else None,
        "ggml.unknown_token_id": tokenizer.unk_token_id,
        "ggml.padding_token_id": tokenizer.pad_token_id,
        "ggml.add_bos_token": begins,
        "ggml.add_eos_token": len(plain) > 1 and plain[-1] in ends,
    }


def _chat_templates(tokenizer: Any) -> dict[str, Any]:
    """Return the chat templates as llama.cpp finds them: the default one, and the others by name."""
    carried = templates_of(tokenizer)
    others = {name: text for name, text in sorted(carried.items()) if name != "default"}
    fields: dict[str, Any] = {f"chat_template.{name}": text for name, text in others.items()}
    return {
        "chat_template": carried.get("default"),
        **fields,
        "chat_templates": list(others) or None,
    }
