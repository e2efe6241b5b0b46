"""Tensors that have a shape, a dtype and a device, but no numbers: PyTorch's fake tensors.

The code of a training step runs on them as it runs on any, so that its memory is known beforehand.
What reads or writes numbers by itself, past PyTorch, asks `has_data` first.
"""

from torch import Tensor


def has_data(tensor: Tensor) -> bool:
    """Say whether there are numbers behind a tensor."""
    return tensor.untyped_storage().device.type != "meta"
