"""Tensors put aside in a file, so that they take no memory until they are wanted again."""

import os
import tempfile
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from strop.core.dataless import has_data
from strop.core.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in the file."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


class Spill:
    """A nameless temporary file that holds tensors last in, first out.

    Args:
        user: who needs it, for messages.
        instead: what else can be done where there is no room, for messages.
    """

    def __init__(
        self, user: str = "policy 'offload'", instead: str = "use policy 'checkpoint'"
    ) -> None:
        self._user, self._instead = user, instead
        self._file, name = tempfile.mkstemp(prefix="strop-")
        os.unlink(name)  # the file lives as long as its descriptor
        weakref.finalize(self, os.close, self._file)
        self._end = 0

    def put(self, tensor: Tensor) -> Place:
        """Write a tensor and return its place.

        Raises:
            UnsupportedError: the disk is full.
        """
        place = Place(self._end, tensor.shape, tensor.dtype, tensor.device)
        flat = tensor.detach().cpu().contiguous().flatten()
        if not has_data(flat):
            return place
        raw, at = flat.view(torch.uint8).numpy().data, self._end
        try:
            while raw:
                written = os.pwrite(self._file, raw, at)
                raw, at = raw[written:], at + written
        except OSError as e:
            raise UnsupportedError(
                f"{self._user} needs room in {tempfile.gettempdir()} for {raw.nbytes} bytes "
                f"more and got: {e.strerror}; free some, set TMPDIR, or {self._instead}"
            ) from e
        self._end = at
        return place

    def take(self, place: Place) -> Tensor:
        """Read a tensor back; places taken after it was put are free again."""
        found = torch.empty(place.shape, dtype=place.dtype)
        if not has_data(found):
            return found.to(place.device)
        raw, at = found.flatten().view(torch.uint8).numpy().data, place.offset
        while raw:
            read = os.preadv(self._file, [raw], at)
            raw, at = raw[read:], at + read
        self._end = place.offset
        return found.to(place.device)
