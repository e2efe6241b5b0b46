"""Changes of a model by which it may no longer treat each token by itself.

The compact forward goes around the forwards of known blocks and of the decoder, and hands every other
part one row of compacted tokens in place of a batch of padded rows. That is right for the code of the
packages named here; a forward or a hook from elsewhere may see rows in another way.
"""

import functools
from collections.abc import Collection, Iterable, Iterator
from typing import Any, cast

from torch import nn
from torch.nn.modules import module as global_hooks

PACKAGES = frozenset(
    {"torch", "transformers", "peft", "trl", "strop", "accelerate", "bitsandbytes"}
)
"""Packages whose forwards and hooks treat rows as transformers' own code does."""
HOOKS = PACKAGES - {"peft", "accelerate"}
"""Packages whose hooks may stay: PEFT's carry state for each row, accelerate's move layers."""
TOKENWISE = frozenset(
    {"adalora", "beft", "boft", "c3a", "deft", "delora", "fourierft", "frod", "glora", "gralora"}
    | {"hira", "hra", "ia3", "ln_tuning", "loha", "lokr", "lora", "miss", "oft", "osf", "peanut"}
    | {
        "psoft",
        "randlora",
        "road",
        "shira",
        "supertuning",
        "tinylora",
        "trainable_tokens",
        "unilora",
    }
    | {"vblora", "vera", "waveft"}
)
"""PEFT's methods that were seen to treat each token by itself; others may mix or draw over a batch."""
VARIANTS = ("Dora",)
"""Prefixes of the names of LoRA's variants of which the same is known."""
POINTWISE = ("Norm", "RotaryEmbedding")
"""Suffixes of the names of layers that look at single tokens, whoever wrote their forward."""
NOT_CAUSAL = "does not attend causally"
ACROSS = ("encoder_attn", "crossattention", "cross_attn", "cross_attention")
"""Suffixes of the names of attention to an encoder's states, unused in a decoder trained alone."""
DRAWS_PER_CALL = ("layerdrop", "rank_dropout", "module_dropout")
"""Suffixes of the names of probabilities that are drawn once for a whole batch."""
OTHER_SHARES = ("resid", "hidden", "activ")
"""Parts of the names of dropouts in an attention layer that are not of its weights."""


def obstacle(model: nn.Module) -> str | None:
    """Return what in `model` is not known to treat each token by itself, or None.

    The model's own forward and hooks do not count: they are called as ever.
    """
    if _global_hooks():
        return "hooks are registered for every module (torch.nn.modules.module)"
    for part in _parts(model):
        if part is not model and (why := _obstacle_of(part)) is not None:
            name = next(n for n, m in model.named_modules() if m is part)
            if why is not NOT_CAUSAL or not name.endswith(ACROSS):
                return f"{name} {why}"
    return None


def hooks_of_a_call(model: nn.Module) -> bool:
    """Return whether PEFT hooks layers for one forward (aLoRA), and removes them before backward."""
    variants = (v for part in model.modules() for v in vars(part).get("lora_variant", {}).values())
    return any(not type(variant).__name__.startswith(VARIANTS) for variant in variants)


def _parts(model: nn.Module) -> list[nn.Module]:
    """Return all modules of a model, cheaper than `modules()`: it runs before each forward."""
    parts: dict[nn.Module, None] = {}
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if part not in parts:
            parts[part] = None
            waiting += [child for child in reversed(part._modules.values()) if child is not None]
    return list(parts)


def is_original(part: Any, *, rebound: bool = False) -> bool:
    """Return whether a module is of a class of transformers and runs that class's forward, unhooked.

    With `rebound` a forward that was bound to this one module does not count.
    """
    kind = type(part)
    return (
        kind.__module__.startswith("transformers.")
        and getattr(kind.forward, "__module__", None) == kind.__module__
        and (rebound or "forward" not in vars(part))
        and not _hooked(part)
    )


def _obstacle_of(part: nn.Module) -> str | None:
    state = vars(part)
    kind = type(part)
    package = foreign_forward(part)
    if package is not None and not kind.__name__.endswith(POINTWISE):
        return f"has a forward of {package} bound to it"
    if state.get("_compiled_call_impl") is not None or "_orig_mod" in state["_modules"]:
        return "is compiled"
    for variant in state.get("lora_variant", {}).values():
        if not type(variant).__name__.startswith(VARIANTS):
            return (
                f"has an adapter of the kind {type(variant).__name__}, which may look at whole rows"
            )
    if _hooked(part) and (package := foreign_hooks(part, HOOKS)) is not None:
        return f"carries a hook of {package}"
    if (why := _of_code(cast(Any, kind), kind.forward)) is not None:
        return why
    if "Attention" in kind.__name__ and state.get("is_causal") is False:
        return NOT_CAUSAL
    return _drawn_per_call(part) if part.training else None


def foreign_forward(part: nn.Module) -> str | None:
    """Return the package of a forward bound to this one module, unless it is one of `PACKAGES`."""
    bound = vars(part).get("forward")
    package = None if bound is None else _package(bound)
    return None if package in PACKAGES else package


def foreign_hooks(part: nn.Module, known: Collection[str] = PACKAGES) -> str | None:
    """Return the package of the first hook of a module that is not of `known`, or None."""
    packages = (_package(hook) for hooks in _hooks(part) for hook in hooks.values())
    return next((package for package in packages if package not in known), None)


@functools.lru_cache(maxsize=4096)
def _of_code(kind: type, forward: Any) -> str | None:
    """Return why the forward of a class is not known, or None."""
    if (package := _package(forward)) not in PACKAGES:
        return f"is a {kind.__name__}, whose forward is code of {package}"
    path = kind.__module__.split(".")
    if path[:2] == ["peft", "tuners"] and len(path) > 3 and path[2] not in TOKENWISE:
        return f"belongs to PEFT's {path[2]}, which may mix or draw over the whole batch"
    return None


def _drawn_per_call(part: nn.Module) -> str | None:
    """Return what a module in training draws at random other than once for each token, or None."""
    kind = type(part)
    if kind.__module__.startswith("torch."):
        return None
    if "Dropout" in kind.__name__ and _positive(part, "p"):
        return f"is a {kind.__name__}, drawn once for a batch"
    for name in vars(part):
        if name.endswith(DRAWS_PER_CALL) and _positive(part, name):
            return f"has a {name}, drawn once for a batch"
    if "Attention" in kind.__name__ and (name := _attention_dropout(part)):
        return f"drops attention weights at random ({name})"
    return None


def _attention_dropout(part: nn.Module) -> str:
    """Return the name of a module's dropout of attention weights, or an empty string."""
    for name in vars(part):
        if "drop" in name and not any(o in name for o in OTHER_SHARES) and _positive(part, name):
            return name
    for name, child in part.named_children():
        named = ("att" in name and "resid" not in name) or name in ("dropout", "drop")
        if named and isinstance(child, nn.Dropout) and child.p > 0:
            return name
    return ""


def draws_by_number(part: nn.Module) -> bool:
    """Return whether a module draws for each token by a number it has, without an nn.Dropout."""
    if type(part).__module__.startswith("torch.") or not part.training:
        return False
    return any(("drop" in n or "jitter" in n) and _positive(part, n) for n in vars(part))


def _positive(part: nn.Module, name: str) -> bool:
    value = vars(part).get(name)
    values: Iterable[Any] = value.values() if isinstance(value, dict) else (value,)
    return any(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in values)


def _hooked(part: Any) -> bool:
    return bool(
        part._forward_pre_hooks
        or part._forward_hooks
        or part._backward_pre_hooks
        or part._backward_hooks
    )


def _hooks(part: Any) -> Iterator[dict[int, Any]]:
    yield part._forward_pre_hooks
    yield part._forward_hooks
    yield part._backward_pre_hooks
    yield part._backward_hooks


def _package(function: Any) -> str:
    """Return the top package that a function, a partial, a method or a callable object is of."""
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None) or type(function).__module__
    return str(module).partition(".")[0]


def _global_hooks() -> bool:
    return bool(
        global_hooks._global_forward_pre_hooks
        or global_hooks._global_forward_hooks
        or global_hooks._global_backward_pre_hooks
        or global_hooks._global_backward_hooks
    )
