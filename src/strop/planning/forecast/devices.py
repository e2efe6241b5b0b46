"""Machines that are not here: their memory, and how fast they can be at most."""

import dataclasses

import torch

from strop.core.errors import ConfigError
from strop.core.units import size_in_bytes

CONTEXT = 750 << 20
"""Bytes of a card that its context and the libraries take."""


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """Where a run is planned for."""

    kind: str
    """cpu or cuda."""
    memory: int | None = None
    """Bytes; None asks the machine."""
    name: str = ""
    flops: float = 0.0
    """A second, of dense products in 16 bits, by the maker; 0 for the machine here."""
    bandwidth: float = 0.0
    """Bytes a second of its memory."""

    @property
    def here(self) -> bool:
        """True for the processor of this machine, which can be timed."""
        return self.kind == "cpu"


_CARDS = {
    "t4": (16, 65e12, 320e9),
    "l4": (24, 121e12, 300e9),
    "a10g": (24, 70e12, 600e9),
    "rtx3060": (12, 51e12, 360e9),
    "rtx3090": (24, 71e12, 936e9),
    "rtx4090": (24, 165e12, 1008e9),
    "rtx5090": (32, 210e12, 1792e9),
    "l40s": (48, 362e12, 864e9),
    "a100": (80, 312e12, 2039e9),
    "h100": (80, 989e12, 3350e9),
    "h200": (141, 989e12, 4800e9),
}
"""GB, operations a second (16 bits, dense, sums in float32) and bytes a second, of data sheets."""
_BY_SIZE = (
    (13, "rtx3060"),
    (17, "t4"),
    (25, "rtx3090"),
    (33, "rtx5090"),
    (49, "l40s"),
    (81, "a100"),
)
"""Cards that stand for all of a size, up to so many GB."""


def device_of(text: str) -> Device:
    """Return the device that a text such as `cpu`, `cpu:8GB`, `cuda:24GB` or `cuda:a100` names.

    Raises:
        ConfigError: it names none.
    """
    kind, _, what = text.strip().lower().partition(":")
    size = size_in_bytes(what) if what else None
    if kind == "cpu" and (size or not what):
        return Device("cpu", size, text)
    if kind == "cuda" and size:
        name = next((card for most, card in _BY_SIZE if size <= most * 1e9), "h200")
        _, flops, bandwidth = _CARDS[name]
        return Device("cuda", size, f"a card as the {name}", flops, bandwidth)
    if kind == "cuda" and what in _CARDS:
        memory, flops, bandwidth = _CARDS[what]
        return Device("cuda", memory * 10**9, what, flops, bandwidth)
    raise ConfigError(
        f"device is {text!r}; write cpu, cpu:8GB, cuda:24GB, or a card: "
        f"{', '.join(f'cuda:{card}' for card in _CARDS)}"
    )


def local_device(device: torch.device) -> Device:
    """Return a device of this machine; a card as the data sheet of its name or size has it."""
    if device.type != "cuda":
        return Device("cpu")
    name, size = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device)
    plain = name.lower().replace(" ", "")
    known = next((card for card in _CARDS if card in plain), None)
    return device_of(f"cuda:{known or size.total_memory}")
