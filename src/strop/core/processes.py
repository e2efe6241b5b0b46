"""The refusal to run as one of several processes that a launcher started."""

from strop.core import env
from strop.core.errors import UnsupportedError


def check_single(what: str) -> None:
    """Refuse to do what only one process can, where torchrun, MPI or Slurm started several.

    Args:
        what: is to be done, as `strop train`.

    Raises:
        UnsupportedError: the environment says that this is one process of several.
    """
    if said := env.launched_with():
        raise UnsupportedError(
            f"{what} runs in one process, and {said} says that a launcher started several, which "
            "would all do the same work and write the same files. Start it without "
            "torchrun, accelerate launch, mpirun or srun (srun --ntasks=1 is one process); to train "
            "in several processes, launch a script of your own with TRL's trainer and "
            "strop.accelerate(trainer), which is right under DDP (docs/python.md)"
        )
