"""Tensors that a compiled kernel reads and writes."""

import re
from typing import Any

_ARGUMENT = re.compile(r"(%\w+): !tt\.ptr<")
_DERIVED = re.compile(
    r"(%\w+)(?::\d+)? = (?:tt\.(?:addptr|splat|broadcast|expand_dims|reshape)|arith\.select)\b(.*)"
)
_CARRIED = re.compile(r"(%\w+) = (%\w+)")
_LOAD = re.compile(r"= tt\.load (%\w+)")
_STORE = re.compile(r"tt\.(?:store|atomic_\w+) (?:\w+, \w+, \w+, )?(%\w+)")
_NAME = re.compile(r"%\w+")


def accesses(kernel: Any) -> dict[str, tuple[bool, bool]]:
    """Return for each pointer of a kernel, by its name, whether it is read and whether written.

    Args:
        kernel: as `triton.compile` returns it; its first intermediate form is read.
    """
    text = kernel.asm["ttir"]
    origin = {name: {name} for name in _ARGUMENT.findall(text)}
    accesses = dict.fromkeys(origin, (False, False))
    for line in text.splitlines():
        if derived := _DERIVED.search(line):
            sources = [origin.get(name, set()) for name in _NAME.findall(derived[2])]
            origin[derived[1]] = set().union(*sources)
        elif "iter_args(" in line:
            for inner, start in _CARRIED.findall(line.split("iter_args(")[1]):
                origin[inner] = origin.get(start, set())
        for pattern, at in ((_LOAD, 0), (_STORE, 1)):
            if touched := pattern.search(line):
                for name in origin.get(touched[1], ()):
                    reads, writes = accesses[name]
                    accesses[name] = (reads or at == 0, writes or at == 1)
    return {name.removeprefix("%"): touched for name, touched in accesses.items()}
