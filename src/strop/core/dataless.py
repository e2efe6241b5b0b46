"""Tensors that have a shape, a dtype and a device, but no numbers: PyTorch's fake tensors.

The code of a training step runs on them as it runs on any, so that its memory is known beforehand.
What reads or writes numbers by itself, past PyTorch, asks `has_data` first.
"""

from torch import Tensor


def has_data(tensor: Tensor) -> bool:
    """Return whether there are numbers behind a tensor."""
    return tensor.untyped_storage().device.type != "meta"


_LAUNCHED = False


def launches(tensor: Tensor) -> bool:
    """Return whether a GPU kernel is launched on a tensor; without data it has nothing to do."""
    return _LAUNCHED or has_data(tensor)


def launch_without_data() -> None:
    """Launch kernels on tensors without data too, in a process whose launches only compile."""
    global _LAUNCHED
    _LAUNCHED = True
