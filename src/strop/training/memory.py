"""How much memory this process holds, and the most it held."""

import sys

import psutil
import torch


def used() -> int:
    """Return the bytes held now: on the accelerator where there is one, else in main memory."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    return int(psutil.Process().memory_info().rss)


def peak() -> dict[str, int]:
    """Return the most bytes the process ever held, by kind of memory."""
    most = {"main": _peak_main()}
    if torch.cuda.is_available():
        most["accelerator"] = torch.cuda.max_memory_allocated()
    return most


def _peak_main() -> int:
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # Linux counts kilobytes, macOS bytes.
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
