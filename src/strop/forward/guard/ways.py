"""Ways in which a model computes a batch, and the cache of those that were proven."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from torch import nn

from strop.core import env
from strop.core.files import read_cached, write_cached
from strop.core.system import versions


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """Way in which a batch is computed.

    compact: all rows as one row of compacted tokens.
    rows: each row by itself through the model's own forward, up to its last supervised token.
    plain: the whole batch through the forward that was bound before.
    """

    name: Literal["compact", "rows", "plain"] = "compact"
    share: bool = True
    """Whether a prefix that rows have in common is computed once."""
    over_padding: bool = False
    """Whether positions count padding on the left too, as the model itself counts them."""
    reason: str = ""
    """Sentence about why it is not the compact way."""


COMPACT = Way()
_HERE: dict[str, Way] = {}


def recall(proven_for: dict[str, Any]) -> Way | None:
    """Return the way that is stored for this model and setting, or None."""
    key = _key(proven_for)
    if key in _HERE:
        return _HERE[key]
    if stored := read_cached(_file(key)):
        return _HERE.setdefault(key, Way(**stored["way"]))
    return None


def store(proven_for: dict[str, Any], way: Way) -> None:
    """Store a way for this process, and in the cache folder where that can be written."""
    key = _key(proven_for)
    _HERE[key] = way
    write_cached(_file(key), {"way": dataclasses.asdict(way), "proven_for": proven_for})


def _key(proven_for: dict[str, Any]) -> str:
    text = json.dumps(proven_for, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _file(key: str) -> Path:
    return env.cache_folder() / "ways" / f"{key}.json"


def describe(model: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Return all that a proof depends on, as JSON: architecture, configuration, versions, settings."""
    config = model.config.to_dict()
    for name in ("_name_or_path", "transformers_version", "torch_dtype", "dtype"):
        config.pop(name, None)
    trained = {_numberless(name) for name, p in model.named_parameters() if p.requires_grad}
    return {
        "model": type(model).__name__,
        "modules": sorted({_kind(m) for m in model.modules()}),
        "config": json.loads(json.dumps(config, default=str)),
        "dtypes": sorted({str(p.dtype) for p in model.parameters()}),
        "device": model.get_input_embeddings().weight.device.type,
        "trained": sorted(trained),
        "versions": versions.installed(),
        "sources": _sources(),
        **settings,
    }


def exceeded(config: Any, longest: int) -> int:
    """Return the number of whole numbers of a configuration that a row's length exceeds.

    The first row longer than a window, a chunk or a context is proven again.
    """
    return sum(n <= longest for n in set(_whole_numbers(config.to_dict())))


def _kind(module: nn.Module) -> str:
    rebound = "*" if "forward" in vars(module) else ""
    hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
    return f"{type(module).__module__}.{type(module).__qualname__}{rebound}{hooks or ''}"


def _numberless(name: str) -> str:
    return re.sub(r"\.\d+\.", ".#.", name)


def _whole_numbers(value: Any) -> Iterable[int]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _whole_numbers(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _whole_numbers(one)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


@functools.cache
def _sources() -> str:
    """Return a digest of the code that computes."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for folder in ("forward", "layers", "ops"):
        for file in sorted((package / folder).rglob("*")):
            if file.suffix in (".py", ".cpp", ".h"):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
