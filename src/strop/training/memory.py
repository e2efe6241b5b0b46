"""Memory of this process: in use now, and at its peak."""

import psutil
import torch

from strop.planning.machine import peak_resident


def used() -> int:
    """Return the bytes in use: on the accelerator where there is one, else in main memory."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    return int(psutil.Process().memory_info().rss)


def peak() -> dict[str, int]:
    """Return the peak bytes of the process, by kind of memory."""
    most = {"main": peak_resident()}
    if torch.cuda.is_available():
        most["accelerator"] = torch.cuda.max_memory_allocated()
    return most
