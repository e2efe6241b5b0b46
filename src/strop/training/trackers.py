"""Trackers that a run reports to, through transformers' own integrations."""

from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks

from strop.core.quiet import quiet
from strop.planning.evaluations import trackers
from strop.planning.settings import Settings
from strop.runs.run import Run


def tracker_callbacks(
    run: Run, settings: Settings, args: TrainingArguments, step: int
) -> list[TrainerCallback]:
    """Return the callbacks that hand every logged number to the trackers; none by default.

    TensorBoard's files lie in the run's folder, and what a resumed run repeats takes the place of
    what a killed attempt wrote. To other trackers a run has one name, by which those that can
    continue it.

    Args:
        run: whose record is written.
        settings: name the trackers.
        args: of the trainer; gets the run's name unless it has one.
        step: the run goes on after it; 0 for a new run.
    """
    names = trackers(settings)
    args.run_name = args.run_name or _unique_name(run)
    others = get_reporting_integration_callbacks([n for n in names if n != "tensorboard"])
    with quiet():
        callbacks = [integration() for integration in others]
    if "tensorboard" in names:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=step + 1 if step else 0)
        callbacks.append(TensorBoardCallback(writer))
    return callbacks


def _unique_name(run: Run) -> str:
    """Return the name of the run's folder and the moment it started, equal whenever it is resumed."""
    return f"{run.path.absolute().name} {run.record['started']}"
