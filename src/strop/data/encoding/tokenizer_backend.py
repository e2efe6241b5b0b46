"""Backend of a tokenizer without truncation, padding and post-processing."""

import contextlib
import weakref
from dataclasses import dataclass
from typing import Any

from strop.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Backend:
    """A private `tokenizers` backend that neither truncates, pads nor moves offsets."""

    fast: Any
    added: dict[int, Any]
    """Added tokens by id, with their flags."""
    specials: dict[int, str]
    """Special ones among the added tokens, as texts."""
    parts: tuple[bytes | None, ...]
    """Normalizer and pre-tokenizer that it was built with, serialised."""


_backends: "weakref.WeakKeyDictionary[Any, Backend]" = weakref.WeakKeyDictionary()


def tokenizer_name(tokenizer: Any) -> str:
    """Return the name of the tokenizer in texts."""
    return str(tokenizer.name_or_path or type(tokenizer).__name__)


def private_backend(tokenizer: Any) -> Backend:
    """Return a backend that only tokenizes, as the tokenizer's does now.

    It has no post-processor, as a byte-level one may leave spaces out of the offsets. Vocabulary
    and merges are shared with the tokenizer's backend, and everything else is compared with it at
    each call, so any change of the tokenizer counts at once. The cost of a call grows with the
    number of added tokens, not with the size of the vocabulary.

    Raises:
        DataError: the tokenizer gives no character offsets.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError(
            f"the tokenizer {tokenizer_name(tokenizer)} gives no character offsets, which exact "
            "supervision needs; load it with use_fast=True"
        )
    added = backend.get_added_tokens_decoder()
    parts = tuple(
        None if part is None else part.__getstate__()
        for part in (backend.normalizer, backend.pre_tokenizer)
    )
    known = _backends.get(tokenizer)
    if known is not None and known.parts == parts and known.added == added:
        with contextlib.suppress(RuntimeError):  # another thread is using it
            known.fast.model = backend.model
            return known
    specials = {i: token.content for i, token in added.items() if token.special}
    known = _backends[tokenizer] = Backend(_stripped(backend, added), added, specials, parts)
    return known


def _stripped(backend: Any, added: dict[int, Any]) -> Any:
    alone = type(backend)(backend.model)
    if backend.normalizer is not None:
        alone.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        alone.pre_tokenizer = backend.pre_tokenizer
    alone.add_tokens([added[i] for i in sorted(added)])
    if alone.get_added_tokens_decoder() == added:
        return alone
    copy = type(backend).from_str(backend.to_str())  # ids that do not follow one another
    copy.no_truncation()
    copy.no_padding()
    copy.post_processor = None
    return copy
