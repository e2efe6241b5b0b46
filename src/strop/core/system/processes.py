"""Processes: the refusal to be one of several, how a child ended, and what others take."""

import signal
import sys

from strop.core import env
from strop.core.errors import UnsupportedError


def check_single(what: str) -> None:
    """Refuse to do what only one process can, where torchrun, MPI or Slurm started several.

    Args:
        what: is to be done, as `strop train`.

    Raises:
        UnsupportedError: the environment, or a process group of torch, says that this is one
            process of several.
    """
    if launcher := env.launched_with() or _process_group():
        raise UnsupportedError(
            f"{what} runs in one process, and {launcher} says that a launcher started several, which "
            "would all do the same work and write the same files. Start it without "
            "torchrun, accelerate launch, mpirun or srun (srun --ntasks=1 is one process); to train "
            "in several processes, launch a script of your own with TRL's trainer and "
            "strop.accelerate(trainer), which is right under DDP (docs/python.md)"
        )


def ending(code: int) -> str:
    """Return how a child process ended that did not do its work, as a part of a sentence."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return "was killed (SIGKILL), as systems do when memory runs out,"
    return f"was ended by {name}"


def _process_group() -> str | None:
    """Return the size of the process group that was set up by hand, as by torch's spawn."""
    distributed = sys.modules.get("torch.distributed")  # who has not imported it has set up none
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    size = distributed.get_world_size()
    return f"torch.distributed.get_world_size()={size}" if size > 1 else None


def seconds_of_others() -> float:
    """Return the seconds for which cores have worked for other processes than this, since the start."""
    import psutil  # where it is timed, not wherever a command begins

    of_all, of_this = psutil.cpu_times(), psutil.Process().cpu_times()
    return float(
        of_all.user + of_all.system + getattr(of_all, "nice", 0.0) - of_this.user - of_this.system
    )
