"""A tokenizer prepared for encoding: its backend, its special tokens, renderers of its templates."""

import contextlib
import functools
import weakref
from dataclasses import dataclass
from datetime import date
from typing import Any

from strop.core.errors import DataError
from strop.data.encoding.render import Renderer
from strop.data.encoding.templates import day_of, template_of, templates_of


@dataclass(frozen=True, slots=True)
class PreparedTokenizer:
    """Everything that encoding needs of a tokenizer."""

    tokenizer: Any
    backend: Any
    """Its `tokenizers` backend, private: neither cuts, pads nor moves offsets."""
    renderers: tuple[Renderer | None, Renderer | None]
    """Renderers of its templates without tools and with tools; mostly the same one."""
    begin_ids: list[int]
    """Token ids before a plain text: its begin token, or none."""
    eos: int | None
    special_ids: frozenset[int]

    def renderer(self, tools: Any = None) -> Renderer:
        """Return the renderer of conversations that may call `tools`.

        Raises:
            DataError: the tokenizer has no chat template for them.
        """
        renderer = self.find_renderer(tools)
        if renderer is None:
            raise DataError(_no_template(self.tokenizer))
        return renderer

    def find_renderer(self, tools: Any = None) -> Renderer | None:
        """Return the renderer of conversations that may call `tools`, or None."""
        return self.renderers[tools is not None]


def prepare(tokenizer: Any) -> PreparedTokenizer:
    """Prepare a tokenizer as it is now.

    Caches of earlier calls have as their key everything they were built from, so that any change
    of a tokenizer counts from the next call.

    Raises:
        DataError: it gives no character offsets, or its template is not valid.
    """
    backend = _private_backend(tokenizer)
    named = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    specials = {**backend.specials, **named}
    title = f"the chat template of {tokenizer_name(tokenizer)}"
    variables = tuple(tokenizer.special_tokens_map.items())

    def renderer(template: str | None) -> Renderer | None:
        if template is None:
            return None
        day = day_of(tokenizer)
        return _renderer(template, tuple(specials.values()), variables, title, day)

    renderers = (renderer(template_of(tokenizer)), renderer(template_of(tokenizer, tools=True)))
    begin, eos = _begin_ids(tokenizer), tokenizer.eos_token_id
    return PreparedTokenizer(tokenizer, backend.fast, renderers, begin, eos, frozenset(specials))


@functools.lru_cache(maxsize=32)
def _renderer(
    template: str,
    specials: tuple[str, ...],
    variables: tuple[tuple[str, Any], ...],
    title: str,
    day: date | None,
) -> Renderer:
    return Renderer(template, specials, dict(variables), title, day)


def _begin_ids(tokenizer: Any) -> list[int]:
    ids = tokenizer("a")["input_ids"]
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and ids and ids[0] == bos else []


def _no_template(tokenizer: Any) -> str:
    """Return the error text for a tokenizer that cannot render conversations."""
    if names := sorted(templates_of(tokenizer)):
        return (
            f"the tokenizer {tokenizer_name(tokenizer)} has the chat templates {', '.join(names)} "
            "and none named default, so none is taken unasked; save the one you mean as "
            "chat_template.jinja in the model's folder, or set tokenizer.chat_template to its text"
        )
    return (
        f"the tokenizer {tokenizer_name(tokenizer)} has no chat template, "
        "and its tokens are of no family strop knows, so conversations cannot be rendered; use the "
        "instruct version of the model, set tokenizer.chat_template (strop.data.family_template has "
        "some), or give the data as plain `text`"
    )


@dataclass(frozen=True, slots=True)
class _Backend:
    """A private `tokenizers` backend that neither truncates, pads nor moves offsets."""

    fast: Any
    added: dict[int, Any]
    """Added tokens by id, with their flags."""
    specials: dict[int, str]
    """Special ones among the added tokens, as texts."""
    parts: tuple[bytes | None, ...]
    """Normalizer and pre-tokenizer that it was built with, serialised."""


_backends: "weakref.WeakKeyDictionary[Any, _Backend]" = weakref.WeakKeyDictionary()


def tokenizer_name(tokenizer: Any) -> str:
    """Return the name of the tokenizer in texts."""
    return str(tokenizer.name_or_path or type(tokenizer).__name__)


def _private_backend(tokenizer: Any) -> _Backend:
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
    known = _backends[tokenizer] = _Backend(_stripped(backend, added), added, specials, parts)
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
