"""Supervised fine-tuning from data to run folder."""

import dataclasses
import datetime
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import save_file

from strop.core import versions
from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.core.files import written_whole
from strop.core.processes import check_single
from strop.data.reading.blend import lasting, sources_named, stem_of
from strop.models.lora import initialisation as lora_init
from strop.models.lora.unmergeable import unmergeable
from strop.models.precision import Bits, bits_of, computes_in, described
from strop.models.quantized.activation_stats import input_energies
from strop.planning.plan import StepPlan, plan_step
from strop.planning.settings import Settings
from strop.runs import checkpoints, report
from strop.runs.left_out import left_out
from strop.runs.run import Run
from strop.training import memory
from strop.training.callbacks import Keep, Record, Show
from strop.training.dataset import Material, length_limit, prepare
from strop.training.interrupt import Interrupt
from strop.training.subject import (
    Subject,
    check_causal,
    check_rows_of_embedding,
    fresh,
    keep_what_was_given,
    resumed,
)
from strop.training.trainer import Trainer, arguments, build, steps

logger = logging.getLogger(__name__)


def train(
    data: Any = None,
    *,
    model: Any = None,
    tokenizer: Any = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Fine-tune `model` on `data` with a LoRA adapter and return the run.

    Ctrl-C and SIGTERM end the current step, save a checkpoint and return; a second one raises
    KeyboardInterrupt at once. A run that was stopped, or killed, goes on with `resume` from its
    last whole checkpoint and ends with the same adapter, bit for bit, as one never stopped.

    Args:
        data: a file, several (`["a.jsonl", "b.csv:0.5"]`, or `{"path": ..., "weight": ...}` each), a
            `datasets.Dataset`, a DataFrame or a list of dicts. When resuming, only needed where the
            run was given rows rather than a file.
        model: a name as `strop.load` takes it, or a transformers model; None takes the default
            of `Settings`. A model object gets the adapter put into it.
        tokenizer: of a model object; with a name, replaces the model's own.
        out: folder of the run, new or empty; None takes the next free one under `runs/`.
        resume: folder of a run to go on with.
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
    given = dict(settings)
    if sources_named(data):
        data = given["data"] = lasting(data)
    if isinstance(model, str | Path):
        given["model"] = _lasting(str(model))
    elif model is not None:
        check_causal(model)
        named = model.name_or_path
        given["model"] = _lasting(named) if named else type(model).__name__
    if resume is not None:
        run, chosen = _reopen(resume, given, out)
    else:
        run, chosen = _start(given, out)
    source = data if data is not None else chosen.data
    if source is None:
        raise DataError("there is no data to train on; give a file, a dataset or a list of rows")
    if resume is not None:
        subject = resumed(run, chosen, model, tokenizer)
    else:
        subject = fresh(chosen, model, tokenizer)
    chosen = _with_bits(chosen, given, bits_of(subject.model))
    if chosen.lora_init == "quantization_error":
        lora_init.check(subject.model, chosen.rank)
    limit = length_limit(chosen, subject.model.config)
    material = prepare(source, subject.tokenizer, chosen, limit)
    check_rows_of_embedding(material, subject)
    chosen = dataclasses.replace(chosen, max_length=material.facts["max_length"])
    console = Console(stderr=True, quiet=quiet)
    _Training(run, chosen, material, console).go(subject, again=resume is not None)
    return run


class _Training:
    """One call of `train`, once everything is loaded."""

    def __init__(self, run: Run, settings: Settings, material: Material, console: Console) -> None:
        self.run = run
        self.settings = settings
        self.material = material
        self.console = console
        self.interrupt = Interrupt()

    def go(self, subject: Subject, *, again: bool) -> None:
        """Train from the last whole checkpoint, or from the start, and write the run's files."""
        run, settings, model = self.run, self.settings, subject.model
        evaluate = bool(self.material.held_out)
        folder = run.checkpoints_folder
        args = arguments(settings, folder, len(self.material.train), model, evaluate)
        keep = Keep(self.interrupt, run, evaluate, settings.trainer)
        if again:
            _check_same(run.record, self.material, model)
            keep.tidy()
        last = checkpoints.newest(folder)
        args.eval_on_start = evaluate and last is None
        record = Record(run, checkpoints.step_of(last) if last else 0)
        plan = self._step_plan(model, again=again)
        if not again:
            self._say_plan(subject, plan)
        with checkpoints.saving(run.path):
            keep_what_was_given(run, subject, None if again else self._record(model, plan))
        trainer = build(
            settings, args, model, subject.tokenizer, self.material.sets(), [keep, record]
        )
        for sentence in unmergeable(trainer.model):
            self.console.print(f"plan    {sentence}", soft_wrap=True, markup=False)
        trained, _ = trainer.model.get_nb_trainable_parameters()
        run.update(model={**run.record["model"], "trained_parameters": trained})
        undo = _accelerated(trainer, plan)
        try:
            self._train(trainer, last)
        finally:
            undo()
        self._finish(trainer, record, keep.best())

    def _step_plan(self, model: Any, *, again: bool) -> StepPlan | None:
        """Return how a step fits into memory: as it began when resumed; None the plain TRL way."""
        if not self.settings.accelerate:
            return None
        if again:
            return StepPlan(**self.run.record["planned"])
        lengths = [len(example.ids) for example in self.material.train]
        return plan_step(model, lengths, self.settings)

    def _say_plan(self, subject: Subject, plan: StepPlan | None) -> None:
        """Print what will be trained on, and what of the data will not be seen."""
        facts = self.material.facts
        planned = steps(self.settings, len(self.material.train))[1]
        share = 100 * facts["supervised_tokens"] / max(1, facts["tokens"])
        said = [
            f"{facts['rows']:,} rows of {facts['source']} ({facts['format']}), "
            f"{facts['held_out_rows']:,} more held out",
            f"{facts['tokens']:,} tokens an epoch, {share:.0f} % of them learned, in {planned:,} steps",
            f"max_length {facts['max_length']:,}; the longest row has {facts['longest_row']:,} tokens",
            *facts["notes"],
            *left_out(facts),
            _said_of_weights(subject.model),
        ]
        if plan is not None:
            said.append(plan.sentence)
        if subject.unlike:
            said.append(f"the model that was given is kept with the run: {subject.unlike}")
        for sentence in said:
            self.console.print(f"plan    {sentence}", soft_wrap=True, highlight=False, markup=False)

    def _train(self, trainer: Trainer, last: Path | None) -> None:
        show = Show(self.console) if self.console.is_terminal and not self.console.quiet else None
        if show is not None:
            trainer.add_callback(show)
        try:
            with self.interrupt.listening(self.console):
                trainer.train(resume_from_checkpoint=str(last) if last else None)
        finally:
            if show is not None:
                show.close()

    def _record(self, model: Any, plan: StepPlan | None) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC)
        weights = described(model)
        return {
            "status": "running",
            "started": now.isoformat(timespec="seconds"),
            "settings": {**self.settings.plain(), "out": str(self.run.path)},
            "model": {
                "family": model.config.model_type,
                "parameters": weights["parameters"],
                "dtype": _dtype(model),
                "device": str(model.device),
                "weights": weights,
            },
            "data": self.material.facts,
            "steps": steps(self.settings, len(self.material.train))[1],
            "planned": None if plan is None else dataclasses.asdict(plan),
            "versions": versions.installed(),
            "commit": versions.commit(),
            "samples": [[dataclasses.asdict(p) for p in row] for row in self.material.samples],
        }

    def _finish(self, trainer: Trainer, record: Record, best: Mapping[str, Any] | None) -> None:
        """Write what the run leaves: the adapter of the last step, or that of `best`."""
        run, state = self.run, trainer.state
        finished = state.global_step >= state.max_steps
        if finished:
            if best is not None:
                trainer.load_step(best["step"])
                with checkpoints.saving(run.path):
                    run.update(best=dict(best))
                self.console.print(report.best_sentence(run), soft_wrap=True, highlight=False)
            with checkpoints.saving(run.adapter_folder), written_whole(run.adapter_folder) as path:
                trainer.save_model(str(path))
                run.assets().save_tokenizer(path)
            self._keep_energies(trainer.model)
        with checkpoints.saving(run.path):
            run.update(
                status="finished" if finished else "interrupted",
                steps_done=state.global_step,
                measured={
                    "seconds": round(record.seconds, 3),
                    "tokens": record.tokens,
                    "tokens_per_second": round(record.tokens / max(record.seconds, 1e-9), 1),
                    "peak_memory": memory.peak(),
                },
            )
            report.write(run)
        if not finished:
            self.console.print(
                f"stopped after step {state.global_step} of {state.max_steps}; "
                f"go on with: strop train --resume {run.path}",
                soft_wrap=True,
            )

    def _keep_energies(self, model: Any) -> None:
        """Note by what an export rounds, while the model and its data are at hand."""
        file = self.run.activation_stats_file
        found = input_energies(model, (example.ids for example in self.material.train))
        with checkpoints.saving(file), written_whole(file) as path:
            save_file(found, path)


def _start(given: dict[str, Any], out: str | Path | None) -> tuple[Run, Settings]:
    if out is not None:
        given = {**given, "out": str(out)}
    settings = Settings.read(given)
    path = Path(settings.out) if settings.out else _free_folder(settings)
    if (path / "run.json").is_file():
        raise ConfigError(
            f"{path} already holds a run; resume it with resume={path}, or give another out"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"out is {path}, which is not an empty folder; give another one")
    return Run(path), dataclasses.replace(settings, out=str(path))


def _free_folder(settings: Settings) -> Path:
    stem = stem_of(settings.data) if settings.data else "rows"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _reopen(
    resume: str | Path, given: dict[str, Any], out: str | Path | None
) -> tuple[Run, Settings]:
    run = Run.open(resume)
    if run.finished:
        raise ConfigError(f"{run.path} is finished; there is nothing to resume; {_way_on(run)}")
    if out is not None and Path(out).absolute() != run.path.absolute():
        raise ConfigError(f"out is {out}, but the run to resume stays in {run.path}")
    recorded = run.settings
    changed = [name for name in given if name not in recorded or given[name] != recorded[name]]
    if changed:
        listed = ", ".join(f"{name} is {recorded.get(name)!r}" for name in changed)
        raise ConfigError(
            f"a resumed run keeps its settings, and in {run.path} {listed}; "
            f"leave out {', '.join(changed)}; or {_way_on(run)}"
        )
    return run, Settings.read(recorded)


def _way_on(run: Run) -> str:
    """Return how to train what a run has learned further, with settings of its own."""
    return (
        f"to train its model further, merge it (strop export {run.path} --to merged) and start a "
        f"new run on that (strop train DATA --model {run.path / 'export' / 'merged'})"
    )


def _check_same(record: dict[str, Any], material: Material, model: Any) -> None:
    """Refuse to go on with other tokens or another number format; name other versions."""
    if record["data"]["sha256"] != material.facts["sha256"]:
        raise DataError(
            f"{material.facts['source']} no longer gives the tokens this run was started with; "
            "restore the data, or start a new run"
        )
    if record["model"]["dtype"] != _dtype(model):
        raise UnsupportedError(
            f"the run was started in {record['model']['dtype']} and the model is now "
            f"{_dtype(model)}, the faster format by a timing; try again while the machine is "
            "quiet, or resume on the machine it was started on"
        )
    if record["settings"]["bits"] != (bits := bits_of(model)):
        raise UnsupportedError(
            f"the run was started with weights in {record['settings']['bits']} bits and the model "
            f"now has them in {bits}; load it with bits={record['settings']['bits']}"
        )
    before = {**record["versions"], "commit": record["commit"]}
    now = {**versions.installed(), "commit": versions.commit()}
    changed = [
        f"{name} was {before[name]} and is now {now.get(name)}"
        for name in before
        if before[name] != now.get(name)
    ]
    if changed:
        logger.warning("the resumed run may end with other last bits: %s", "; ".join(changed))


def _with_bits(settings: Settings, given: dict[str, Any], bits: Bits) -> Settings:
    """Return the settings with the bits that the model's weights really have.

    Raises:
        ConfigError: other bits were asked for.
    """
    if "bits" in given and given["bits"] != bits:
        raise ConfigError(
            f"bits is {given['bits']}, but the weights of the model are held in {bits}; load it "
            f"with strop.load(..., bits={given['bits']}) or leave bits out"
        )
    return dataclasses.replace(settings, bits=bits)


def _said_of_weights(model: Any) -> str:
    found = described(model)
    exact = found.get("bits_per_quantised_weight", found["bits"])
    return (
        f"weights of {found['parameters'] / 1e6:,.0f} million held in {found['bits']} bits "
        f"({exact:g} a linear weight), {found['bytes'] / 1e6:,.0f} MB in all; "
        f"computed in {_dtype(model)}"
    )


def _accelerated(trainer: Trainer, plan: StepPlan | None) -> Callable[[], None]:
    if plan is None:
        return lambda: None
    from strop.training.acceleration import accelerate, restore

    accelerate(trainer, activations=plan.activations, micro_batch_tokens=plan.micro_batch_tokens)
    return lambda: restore(trainer)


def _lasting(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).exists() else name


def _dtype(model: Any) -> str:
    return str(computes_in(model)).removeprefix("torch.")
