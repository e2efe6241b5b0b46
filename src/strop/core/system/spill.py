"""Tensors moved out of memory until they are needed again.

Tensors of the machine's memory go to a file. Tensors of a card go to the machine's memory, in
page-locked pages: neither copy is waited for, and each is done before the card's next operation.
"""

import tempfile
import weakref
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from strop.core.dataless import has_data
from strop.core.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a tensor: in the file, or beside the card."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    beside: Tensor | None = None
    """A copy in the machine's memory, of a tensor on a card."""


class Spill:
    """Stack of tensors, those of the machine's memory in a nameless temporary file.

    Args:
        user: who needs it, for messages.
        instead: what else can be done where there is no room, for messages.
    """

    def __init__(
        self, user: str = "activations='offload'", instead: str = "use activations='checkpoint'"
    ) -> None:
        self._user, self._instead = user, instead
        self._file = tempfile.TemporaryFile(prefix="strop-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._end = 0

    def put(self, tensor: Tensor) -> Place:
        """Write a tensor and return its place.

        Raises:
            UnsupportedError: the disk is full.
        """
        place = Place(self._end, tensor.shape, tensor.dtype, tensor.device)
        if tensor.device.type != "cpu":
            pinned = has_data(tensor)
            beside = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            return replace(place, beside=beside.copy_(tensor.detach(), non_blocking=True))
        flat = tensor.detach().contiguous().flatten()
        if not has_data(flat):
            return place
        raw, at = flat.view(torch.uint8).numpy().data, self._end
        try:
            self._file.seek(at)
            while raw:
                written = self._file.write(raw)
                raw, at = raw[written:], at + written
        except OSError as e:
            raise UnsupportedError(
                f"{self._user} needs room in {tempfile.gettempdir()} for {raw.nbytes} bytes "
                f"more and got: {e.strerror}; free some, set TMPDIR, or {self._instead}"
            ) from e
        self._end = at
        return place

    def take(self, place: Place) -> Tensor:
        """Return a tensor; places in the file taken after it was put are free again."""
        if place.beside is not None:
            return place.beside.to(place.device, non_blocking=True)
        tensor = torch.empty(place.shape, dtype=place.dtype)
        if not has_data(tensor):
            return tensor
        raw = tensor.flatten().view(torch.uint8).numpy().data
        self._file.seek(place.offset)
        while raw:
            raw = raw[self._file.readinto(raw) :]
        self._end = place.offset
        return tensor
