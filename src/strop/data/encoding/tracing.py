"""Traced texts: strings that know for each character the message and the part it came from.

A chat template is rendered with `Traced` texts in place of plain ones. Their value is the same, so
the template takes the same branches and the output is the same string; every operation that a
template can do on a text keeps the origin of each character. The template's own text has no owner.

An owner is one number: a message in its low bits, and above them a bit for each part, such as the
reasoning or one argument of a call. What is computed from several parts has the bits of all.
"""

# ruff: noqa: D102 - the methods are those of `str`
import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex

_BITS = 20
_MESSAGE = (1 << _BITS) - 1
NO_MESSAGE = -1
"""In place of a message: the template's own text, and names that it may repeat anywhere."""
TOOLS = -2
"""In place of a message: the tool descriptions."""


def owner_of(message: int, part: int | None = None) -> int:
    """Return the owner of a message's characters that belong to a part, or to none."""
    return (message + 2) | (0 if part is None else 1 << (_BITS + part))


def message_of(owner: int) -> int:
    """Return the message of an owner, `NO_MESSAGE` or `TOOLS`."""
    return (owner & _MESSAGE) - 2


def parts_of(owner: int) -> int:
    """Return the parts of an owner as bits."""
    return owner >> _BITS


TEMPLATE = owner_of(NO_MESSAGE)
"""Owner of the template's own text."""

Runs = tuple[tuple[int, int], ...]


class UntraceableError(ValueError):
    """Raised where a template mixes the origins of a text's characters."""


class Traced(str):
    """Text with the owner of each character, as runs of (length, owner)."""

    __slots__ = ("runs",)
    runs: Runs

    def __new__(cls, text: str, runs: Runs | None = None) -> "Traced":
        if runs is None:  # the sandbox's own `format` makes its result this way
            raise UntraceableError("it uses a message's text as a format string")
        traced = super().__new__(cls, text)
        traced.runs = runs
        return traced

    @classmethod
    def owned(cls, text: str, owner: int) -> "Traced":
        """Return `text` as a whole owned by `owner`."""
        return cls(text, ((len(text), owner),) if text else ())

    def part(self, start: int, end: int) -> "Traced":
        """Return the characters from `start` up to `end`."""
        runs, at = [], 0
        for length, owner in self.runs:
            low, high = max(start, at), min(end, at + length)
            if low < high:
                runs.append((high - low, owner))
            at += length
        return Traced(str.__getitem__(self, slice(start, max(start, end))), tuple(runs))

    def _in_order(self, parts: Iterable[str]) -> list[str]:
        """Return `parts`, which occur in this text in this order, as traced texts."""
        traced: list[str] = []
        at = 0
        for part in parts:
            at = str.index(self, part, at)
            traced.append(self.part(at, at + len(part)))
            at += len(part)
        return traced

    def __str__(self) -> "Traced":
        return self

    def __add__(self, other: str) -> "Traced":
        if not isinstance(other, str):
            str.__add__(self, other)  # raises what a plain text raises
        return joined((self, other))

    def __radd__(self, other: str) -> "Traced":
        if not isinstance(other, str):
            return NotImplemented
        return joined((other, self))

    def __getitem__(self, key: SupportsIndex | slice) -> "Traced":
        text = str.__getitem__(self, key)
        if isinstance(key, slice):
            start, end, step = key.indices(len(self))
            if step == 1:
                return self.part(start, end)
            return joined([self.part(i, i + 1) for i in range(start, end, step)])
        index = key.__index__()
        index += len(self) if index < 0 else 0
        return self.part(index, index + len(text))

    def __iter__(self) -> Iterator[str]:
        return (self.part(i, i + 1) for i in range(len(self)))

    def lstrip(self, chars: str | None = None, /) -> "Traced":
        return self.part(len(self) - len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None, /) -> "Traced":
        return self.part(0, len(str.rstrip(self, chars)))

    def strip(self, chars: str | None = None, /) -> "Traced":
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str, /) -> "Traced":
        return self.part(len(prefix) if str.startswith(self, prefix) else 0, len(self))

    def removesuffix(self, suffix: str, /) -> "Traced":
        return self.part(0, len(str.removesuffix(self, suffix)))

    def _split_at(self, sep: str, where: list[int]) -> list[str]:
        edges = [0, *[edge for at in where for edge in (at, at + len(sep))], len(self)]
        return [self.part(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        if sep is None:
            return self._in_order(str.split(self, None, maxsplit))
        where, at, left = [], 0, maxsplit.__index__()
        str.split(self, sep, maxsplit)  # raises what a plain text raises
        while left != 0 and (at := str.find(self, sep, at)) >= 0:
            where.append(at)
            at, left = at + len(sep), left - 1
        return self._split_at(sep, where)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        if sep is None:
            return self._in_order(str.rsplit(self, None, maxsplit))
        where: list[int] = []
        end, left = len(self), maxsplit.__index__()
        str.rsplit(self, sep, maxsplit)
        while left != 0 and (at := str.rfind(self, sep, 0, end)) >= 0:
            where.insert(0, at)
            end, left = at, left - 1
        return self._split_at(sep, where)

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines = self._in_order(str.splitlines(self, True))
        if keepends:
            return lines
        bare = str.splitlines(self)
        return [line[: len(text)] for line, text in zip(lines, bare, strict=True)]

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        a, b, c = self._in_order(str.partition(self, sep))
        return a, b, c

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        first = len(str.rpartition(self, sep)[0])
        width = len(sep) if sep in self else 0
        return (
            self.part(0, first),
            self.part(first, first + width),
            self.part(first + width, len(self)),
        )

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> "Traced":
        if not old or not isinstance(new, str):
            return derived(str.replace(self, old, new, count), (self, new))
        parts = self.split(old, count)
        owner = self.runs[0][1] if self.runs else TEMPLATE
        between = new if isinstance(new, Traced) else Traced.owned(new, owner)
        return joined([piece for part in parts for piece in (between, part)][1:])

    def join(self, parts: Iterable[str], /) -> "Traced":
        return joined_by(self, parts)

    def __mul__(self, times: SupportsIndex) -> "Traced":
        return joined([self] * times.__index__())

    __rmul__ = __mul__


def _changed(name: str) -> Callable[..., Traced]:
    plain = getattr(str, name)

    def method(self: Traced, *args: Any, **kwargs: Any) -> Traced:
        text = plain(self, *args, **kwargs)
        if len(text) == len(self):
            return Traced(text, self.runs)
        return derived(text, (self, args, kwargs))

    return method


for _name in (
    *("lower", "upper", "title", "capitalize", "swapcase", "casefold", "translate"),
    *("zfill", "center", "ljust", "rjust", "expandtabs"),
):
    setattr(Traced, _name, _changed(_name))


def joined(parts: Iterable[Any]) -> Traced:
    """Return the parts as one text; plain ones belong to the template."""
    texts: list[str] = []
    runs: list[tuple[int, int]] = []
    for part in parts:
        text = part if isinstance(part, str) else str(part)
        if not text:
            continue
        texts.append(text)
        new: Runs = text.runs if isinstance(text, Traced) else ((len(text), TEMPLATE),)
        if runs and runs[-1][1] == new[0][1]:
            runs[-1] = (runs[-1][0] + new[0][0], new[0][1])
            runs.extend(new[1:])
        else:
            runs.extend(new)
    return Traced("".join(texts), tuple(runs))


def joined_by(separator: str, parts: Iterable[Any]) -> Traced:
    """Return `separator.join(parts)`, traced.

    Raises:
        TypeError: one of the parts is no text.
    """
    texts = list(parts)
    str.join(separator, texts)  # raises what a plain text raises
    return joined_with(separator, texts)


def joined_with(separator: str, parts: Iterable[Any]) -> Traced:
    """Return the parts with a separator between them, as Jinja's filter `join` does."""
    return joined([piece for part in parts for piece in (separator, part)][1:])


def owners(value: Any) -> set[int]:
    """Return the owners of all traced texts inside `value`."""
    if isinstance(value, Traced):
        return {owner for _, owner in value.runs}
    if isinstance(value, OwnedDict):
        return {value.owner}.union(*(owners(v) for v in (*value.keys(), *value.values())))
    if isinstance(value, dict):
        return set().union(*(owners(v) for v in (*value.keys(), *value.values())))
    if isinstance(value, (list, tuple)):
        return set().union(*(owners(v) for v in value))
    return set()


def derived(text: str, origins: Any) -> Traced:
    """Return `text`, computed from `origins` as a whole, traced to their only message.

    Raises:
        UntraceableError: they are of more than one.
    """
    origin_owners = owners(origins)
    messages = {message_of(owner) for owner in origin_owners} - {NO_MESSAGE}
    if len(messages) > 1:
        raise UntraceableError("it mixes the texts of several messages in one operation")
    parts = functools.reduce(operator.or_, (parts_of(owner) for owner in origin_owners), 0)
    message = messages.pop() if messages else NO_MESSAGE
    return Traced.owned(text, owner_of(message) | parts << _BITS)


class OwnedDict(dict[str, Any]):
    """Dictionary with its owner, such as the arguments of a tool call."""

    owner: int


def trace(value: Any, owner: int) -> Any:
    """Return a copy of `value` in which each text is traced to `owner`."""
    if isinstance(value, str):
        return Traced.owned(value, owner)
    if isinstance(value, dict):
        return trace_dict({k: trace(v, owner) for k, v in value.items()}, owner)
    if isinstance(value, (list, tuple)):
        return [trace(item, owner) for item in value]
    return value


def trace_dict(items: dict[Any, Any], owner: int) -> OwnedDict:
    """Return a dictionary of traced values whose plain keys are traced to `owner`."""
    traced = OwnedDict(
        {k if isinstance(k, Traced) else trace(k, owner): v for k, v in items.items()}
    )
    traced.owner = owner
    return traced
