"""Fine-tuning of a model on rows, by the method that suits them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from strop.core import env
from strop.core.errors import DataError
from strop.core.progress import Progress
from strop.core.quiet import quiet
from strop.core.system.output import lasting_output
from strop.core.system.processes import check_single
from strop.data.reading.blend import sources_named
from strop.data.reading.columns import columns_of
from strop.forward.router_loss import has_router_loss
from strop.runs.run import Run
from strop.runs.run_data import read_and_split
from strop.training.dataset import length_limit
from strop.training.eval_metrics import eval_metrics
from strop.training.loaded_model import check_causal, check_embeddings
from strop.training.methods import METHODS, with_method
from strop.training.opening import OpenRun, open_run
from strop.training.rewards.environment import environment_rows
from strop.training.session import Session
from strop.training.trackers import tracker_callbacks
from strop.training.trainer import arguments


def train(
    data: Any = None,
    *,
    model: Any = None,
    tokenizer: Any = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Fine-tune `model` on `data` with a LoRA adapter and return the run.

    Ctrl-C and SIGTERM end the current step, save a checkpoint and return; a second one raises
    KeyboardInterrupt at once. A run that was stopped, or killed, goes on with `resume` from its
    last complete checkpoint and ends with the same adapter, bit for bit, as one never stopped.

    Args:
        data: a file, several (`["a.jsonl", "b.csv:0.5"]`, or `{"path": ..., "weight": ...}` each), a
            `datasets.Dataset`, a DataFrame or a list of dicts. When resuming, only needed where the
            run was given rows rather than a file.
        model: a name as `strop.load` takes it, or a transformers model; None takes the default
            of `Settings`. A model object gets the adapter put into it.
        tokenizer: of a model object; with a name, replaces the model's own.
        out: folder of the run, new or empty; None takes the next free one under `runs/`.
        resume: folder of a run to go on with.
        overwrite: delete the run in `out` first.
        quiet: show nothing on the terminal.
        **settings: fields of `Settings`.

    Returns:
        The run; `run.finished` is False when it was stopped before its end.

    Raises:
        ConfigError: settings that cannot work, `out` is in use, or `resume` is no open run.
        DataError: rows that cannot be used, all of them listed.
        UnsupportedError: the disk is full, the loss is no longer a number, or this is one of
            several processes.
    """
    check_single("strop.train")
    explicit = dict(settings)
    rows = None if sources_named(data) else data
    if rows is None and data is not None:
        explicit["data"] = data
    if out is not None:
        explicit["out"] = str(out)
    if model is None or isinstance(model, str | Path):
        explicit |= {} if model is None else {"model": model}
        model = None
    else:
        check_causal(model)
        explicit["model"] = model.name_or_path or type(model).__name__
    given = model is not None
    with open_run(explicit, resume, overwrite=overwrite, model_given=given) as opened:
        return fine_tune(opened, rows, model, tokenizer, quiet=quiet)


@quiet()
@lasting_output()
def fine_tune(
    opened: OpenRun,
    rows: Any = None,
    model: Any = None,
    tokenizer: Any = None,
    *,
    quiet: bool = False,
    progress: Progress | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Run:
    """Train the run that `open_run` returned; arguments and errors are those of `train`.

    Args:
        opened: the run and its settings.
        rows: to train on, where the settings name no file.
        model: an object, or None for the model that the settings name.
        tokenizer: of the model object, or instead of the model's.
        quiet: show nothing on the terminal.
        progress: called after each step, instead of a bar on the terminal.
        callbacks: further ones, called after those of the run.
    """
    env.keep_few_products()
    source = opened.settings.data if rows is None else rows
    if source is None and opened.settings.environment is not None:
        source = environment_rows(opened.settings)
    if source is None:
        raise DataError("there is no data to train on; give a file, a dataset or a list of rows")
    session = Session(opened, model, tokenizer, quiet=quiet, progress=progress)
    limit = length_limit(session.settings, session.model.config)
    columns = columns_of(session.settings.plain())
    split = read_and_split(source, columns, session.settings)
    if not opened.resumed:
        session.settings = with_method(session.settings, opened.explicit, split)
    method = METHODS[session.settings.method]
    data = method.encode(split, session.tokenizer, session.settings, limit)
    if not opened.resumed:
        session.choose(data)
    settings = session.settings
    check_embeddings(data, session.model, session.tokenizer)
    if method.preview is not None and not opened.resumed:
        data.facts["notes"] += method.preview(settings, session.model, session.tokenizer, data)
    args = arguments(
        method.config,
        settings,
        session.model,
        folder=session.run.checkpoints_folder,
        rows=len(data.train),
        evaluate=data.evaluates,
        whole=method.whole or has_router_loss(session.model, settings.trainer),
        **method.fields(settings),
    )
    measures = eval_metrics(split, data, settings)
    of_run = session.begin(data, args, measures)
    trackers = tracker_callbacks(session.run, settings, args, session.step)
    every = [*trackers, *of_run, *callbacks]
    session.train(
        method.build(session.settings, args, session.model, session.tokenizer, data, every)
    )
    return session.run
