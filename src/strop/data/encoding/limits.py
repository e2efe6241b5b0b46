"""Limits of a rendering: processor time, steps, bytes, sizes and depth of values.

Templates come from strangers. Whatever a template makes counts here, when it makes it: a text with
its bytes, a list or an object with everything in it, so that a list of a list of a list cannot stand
for more than fits into memory. What would grow beyond the limits is refused before it is made.
"""

import itertools
import re
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2
import jinja2.utils

MOST_STEPS = 2_000_000
"""Most iterations of loops and calls of macros in one rendering."""

MOST_SECONDS = 30.0
"""Most seconds of processor time of one rendering."""

MOST_BYTES = 2**30
"""Most bytes of all that one rendering makes, beside 64 times its conversation."""

LONGEST_TEXT = 64 * 2**20
"""Most characters of a text that a template computes, beside those of its conversation."""

MOST_VALUES = 1_000_000
"""Most values inside a list or an object that a template makes, beside those it was given."""

DEEPEST = 100
"""Most levels of lists and objects inside one another."""

LARGEST_NUMBER = 1_000_000
"""Largest number that a template may give to a function, such as a width."""

_LONGEST_FOR_SLOW = 100_000
_LARGEST_BITS = 4096
_BYTES_OF_TEXT = 250
"""Bytes of a short text that is cut out of another."""

_PER_CHARACTER = frozenset(
    (
        *("list", "batch", "slice", "sort", "unique", "groupby", "map", "select", "reject"),
        *("selectattr", "rejectattr", "sum", "min", "max", "random", "dictsort", "join"),
    )
)
"""Filters that take a text for a list of its characters."""
_SLOW = frozenset(("urlize", "striptags", "wordwrap", "pprint", "xmlattr", "wordcount"))
_SPLITS = frozenset(("split", "rsplit", "splitlines"))
_WIDE = re.compile(r"[%{][^%{}a-zA-Z]*(\d{6}|\*)")


class LimitError(jinja2.TemplateError):
    """A rendering that would take more than it may."""


Size = tuple[int, int, int]
"""Number of values in a value, itself included; characters of its texts; levels."""


class Meter:
    """What one rendering has used, held against the limits.

    Args:
        given: what the template is given.
    """

    def __init__(self, given: Any = ()) -> None:
        self.steps = 0
        self.bytes = 0
        self._ticks = 0
        self._until = time.thread_time() + MOST_SECONDS
        self._sizes: dict[int, tuple[Any, Size]] = {}
        self._most: Size = (sys.maxsize, sys.maxsize, sys.maxsize)
        values, characters, depth = self.size(given)
        self._most = (MOST_VALUES + 2 * values, LONGEST_TEXT + 2 * characters, DEEPEST + depth)
        self._most_bytes = MOST_BYTES + 64 * (characters + 16 * values)

    def step(self, count: int = 1) -> None:
        """Count an iteration of a loop, or a call as `count` of them."""
        self.steps += count
        if self.steps > MOST_STEPS:
            raise LimitError(f"it takes more than {MOST_STEPS:,} steps")
        self._look_at_clock()

    def _look_at_clock(self) -> None:
        self._ticks += 1
        if self._ticks % 64 == 0 and time.thread_time() > self._until:
            raise LimitError(f"it takes more than {MOST_SECONDS:g} seconds")

    def spend(self, count: int) -> None:
        """Count bytes."""
        self.bytes += count
        if self.bytes > self._most_bytes:
            raise LimitError(
                f"what it makes takes more than {self._most_bytes / 2**20:,.0f} MiB of memory"
            )
        self._look_at_clock()

    def charge(self, value: Any) -> Any:
        """Count a value that the template made, and return it."""
        if isinstance(value, (str, bytes)):
            self.check_length(len(value))
            self.spend(sys.getsizeof(value))
        elif isinstance(value, (list, tuple, dict)):
            self.size(value)
            self.spend(sys.getsizeof(value))
        elif isinstance(value, int) and value.bit_length() > _LARGEST_BITS:
            raise LimitError(f"it computes a number of {value.bit_length():,} bits")
        return value

    def check_length(self, length: int) -> None:
        """Refuse a text of this length if it is too long."""
        if length > self._most[1]:
            raise LimitError("it makes a text that grows without bound")

    def size(self, value: Any) -> Size:
        """Return the size of a value, what stands in it twice counted twice.

        Raises:
            LimitError: it is larger than the limits.
        """
        if isinstance(value, (str, bytes)):
            return 1, len(value), 0
        if not isinstance(value, (list, tuple, dict)):
            return 1, 8, 0
        if (known := self._sizes.get(id(value))) is not None:
            return known[1]
        inner: Iterable[Any] = value
        if isinstance(value, dict):
            inner = itertools.chain(value.keys(), value.values())
        values, characters, depth = 1, 2, 0
        for item in inner:
            size = self.size(item)
            values, characters = values + size[0], characters + size[1]
            depth = max(depth, size[2])
        size = (values, characters, depth + 1)
        if values > self._most[0]:
            raise LimitError("it makes a list that grows without bound")
        self.check_length(characters)
        if depth >= self._most[2]:
            raise LimitError(f"it makes lists more than {DEEPEST} levels deep")
        self._sizes[id(value)] = value, size
        return size

    def before_filter(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Refuse a filter whose result would be too large, or take too long."""
        text = args[0] if args and isinstance(args[0], str) else None
        if text is not None and name in _PER_CHARACTER | _SLOW and len(text) > _LONGEST_FOR_SLOW:
            raise LimitError(f"it takes a text of {len(text):,} characters apart")
        if text is not None and name in _SLOW:
            longest = max(map(len, (a for a in (*args, *kwargs.values()) if isinstance(a, str))))
            self.check_length(len(text) * (1 + longest * (longest > len(text))))
        start = kwargs.get("start", args[2] if len(args) > 2 else 0)
        if name == "sum" and isinstance(start, (list, tuple)) and not _is_short(args[0]):
            raise LimitError("it adds up too many lists")
        if name in ("pprint", "tojson") and args:
            values, characters, depth = self.size(args[0])
            inset = kwargs.get("indent", args[1] if len(args) > 1 else 0)
            around = sum(map(len, kwargs.get("separators") or ()))
            self.check_length(values * (depth * _width(inset) + around) + characters)
            if name == "pprint" and values > 10_000:
                raise LimitError(f"it writes {values:,} values with pprint")
        if name == "join" and not isinstance(args[0], str):
            self._before_join(_text(args[1:], kwargs), args[0])
        elif name == "indent" and text is not None:
            width = _width(args[1] if len(args) > 1 else kwargs.get("width", 4))
            self.check_length(len(text) + (text.count("\n") + 1) * width)
        elif text is not None:
            self.before_method(text, name, args[1:], kwargs)

    def before_method(
        self, text: str, name: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        """Refuse a method of a text whose result would be too large."""
        if name == "replace":
            texts = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, str)]
            old, new = (*texts, "", "")[:2]
            times = text.count(old) if len(text) * (1 + len(new)) > LONGEST_TEXT else 0
            self.check_length(len(text) + times * len(new))
        elif name == "join" and args:
            self._before_join(text, args[0])
        elif name == "expandtabs":
            self.check_length(text.count("\t") * _width(args[0] if args else 8))
        elif name == "translate" and args and isinstance(args[0], dict):
            longest = max((len(v) for v in args[0].values() if isinstance(v, str)), default=1)
            self.check_length(len(text) * longest)
        elif name in ("format", "format_map"):
            self.before_format(text, (*args, *kwargs.values()))
        elif name in _SPLITS:
            separator = _text(args, kwargs)
            times = text.count(separator) if separator else len(text) // 2
            self.spend(_BYTES_OF_TEXT * times)

    def before_format(self, text: str, values: Iterable[Any]) -> None:
        """Refuse a format that would write too much."""
        if _WIDE.search(text):
            raise LimitError("it makes a text that grows without bound")
        places = text.count("%") + text.count("{")
        longest = max((self.size(value)[1] for value in values), default=0)
        self.check_length(len(text) + places * longest)

    def before_times(self, left: Any, right: Any) -> None:
        """Refuse a product that would be too large."""
        if isinstance(right, int):
            left, right = right, left
        if isinstance(right, (str, bytes, list, tuple)) and isinstance(left, int):
            values, characters, _ = self.size(right)
            if max(values, characters) * max(left, 0) > LARGEST_NUMBER:
                raise LimitError("it makes a text that grows without bound")

    def _before_join(self, separator: str, parts: Any) -> None:
        if isinstance(parts, (list, tuple, dict)):
            self.check_length(len(parts) * len(separator) + self.size(parts)[1])


def refuse_huge(args: Iterable[Any], kwargs: dict[str, Any]) -> None:
    """Refuse numbers, such as widths, that are no measure of anything in a conversation."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise LimitError(f"it computes with the number {value:.3g}")


def _is_short(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= 1000


def _width(value: Any) -> int:
    return len(value) if isinstance(value, str) else max(int(value or 0), 1)


def _text(args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    texts = (arg for arg in (*args, *kwargs.values()) if isinstance(arg, str))
    return next(texts, "")


class TemplateDict:
    """The function `dict` without the class's attributes, as in transformers."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Return what `dict` returns."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Return what `dict.fromkeys` returns."""
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(jinja2.utils.Namespace):
    """A namespace without names that begin with an underscore, as in transformers."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        names = dict(*rest, **kwargs)
        for name in names:
            _refuse_private(name)
        jinja2.utils.Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(
            f"chat templates cannot set {name!r} of a namespace, a name with an underscore"
        )
