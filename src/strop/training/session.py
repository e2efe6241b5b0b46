"""A training run from its first file to its report, whatever method trains."""

import dataclasses
from collections.abc import Callable
from datetime import date
from typing import Any

from rich.console import Console
from transformers import TrainerCallback, TrainingArguments

from strop.core.errors import ConfigError, DivergedError
from strop.core.files import written_whole
from strop.core.progress import Progress
from strop.core.system.terminal import bars
from strop.data.encoding.templates import render_on
from strop.forward.gradient_noise import GradientNoise
from strop.models.lora import initialisation as lora_init
from strop.models.lora.unmergeable import unmergeable
from strop.models.packaged import published_name
from strop.models.precision import bits_of, dtype_name
from strop.planning.forecast.run_plan import RunPlan, plan_here
from strop.planning.plan import StepPlan, plan_step
from strop.runs import checkpoints, report
from strop.runs.outcome import outcome
from strop.runs.tokenizer import save_tokenizer
from strop.training.acceleration import accelerate, compact_forward, restore
from strop.training.callbacks.checkpoints import Checkpoints
from strop.training.callbacks.diagnosis import Diagnosis
from strop.training.callbacks.log import RunLog
from strop.training.callbacks.shown import ProgressBar, StepLines, StepProgress
from strop.training.dataset import TrainingData
from strop.training.eval_metrics import EvalMetrics
from strop.training.interrupt import Interrupt
from strop.training.loaded_model import fresh, resumed, save_start
from strop.training.opening import OpenRun
from strop.training.probe.race import planned_probe, probe
from strop.training.record import (
    announced_fitting,
    check_unchanged,
    data_sentences,
    digests,
    first_record,
    result_sentences,
    resumed_sentence,
    save_activation_stats,
    weights_sentence,
)
from strop.training.trainer import RunTrainer


class Session:
    """One training run: folder, record, model assets, checkpoints, interruption and report.

    A training method gives its data and its trainer; everything else is here, and only the main
    process writes:

        session = Session(open_run(settings), model, tokenizer)
        data = prepare(...)                      # the method's rows as tokens
        args = arguments(...)                    # the method's configuration
        callbacks = session.begin(data, args)    # the run folder is written
        session.train(build(..., callbacks))     # the method's trainer
    """

    def __init__(
        self,
        opened: OpenRun,
        model: Any,
        tokenizer: Any,
        *,
        quiet: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Load the model and the tokenizer.

        Args:
            opened: the run and its settings.
            model: a transformers model, or None for that of the settings.
            tokenizer: of a model object, or instead of the model's; None takes the model's.
            quiet: show nothing on the terminal.
            progress: called after each step, instead of a bar on the terminal.

        Raises:
            StropError: the model cannot be loaded, or does not fit the tokenizer and the settings.
        """
        self.run = opened.run
        self.resumed = opened.resumed
        self.console = Console(stderr=True, quiet=quiet)
        self._progress = progress
        settings = opened.settings
        with bars(quiet=quiet) as shown:
            fitting = announced_fitting(shown, self._print)
            if opened.resumed:
                self._loaded = resumed(self.run, model, tokenizer, fitting)
            else:
                self._loaded = fresh(settings, model, tokenizer, fitting)
        self.model, self.tokenizer = self._loaded.model, self._loaded.tokenizer
        self._day = self.run.day if opened.resumed else date.today()
        render_on(self.tokenizer, self._day)
        bits = bits_of(self.model)
        if opened.explicit.get("bits", bits) != bits:
            raise ConfigError(
                f"bits is {settings.bits}, but the weights of the model have {bits}; load "
                f"it with strop.load(..., bits={settings.bits}) or leave bits out"
            )
        dtype = dtype_name(self.model)
        if opened.explicit.get("dtype", "auto") not in ("auto", dtype):
            raise ConfigError(
                f"dtype is {settings.dtype}, but the model computes in {dtype}; load it with "
                f"strop.load(..., dtype=torch.{settings.dtype}) or leave dtype out"
            )
        self.settings = dataclasses.replace(settings, bits=bits, dtype=dtype)
        if settings.lora_init == "quantization_error":
            lora_init.check(self.model, settings.rank)
        self._interrupt = Interrupt()
        self._explicit = opened.explicit
        self._run_plan: RunPlan | None = None

    def choose(self, data: TrainingData[Any]) -> None:
        """Let the rules choose the settings that the caller left open, and predict the cost."""
        args = data.rows, data.facts, self.settings, self._explicit
        self._run_plan = plan_here(self.model, *args, predict=not self.console.quiet)
        self.settings = self._run_plan.settings

    def begin(
        self, data: TrainingData[Any], args: TrainingArguments, measures: EvalMetrics | None = None
    ) -> list[TrainerCallback]:
        """Write the record and the assets of the run, and return the callbacks that continue them.

        Args:
            data: what will be trained on; must be the same when a run is resumed.
            args: of the trainer; a new run evaluates before its first step.
            measures: of held-out rows, at each evaluation beside the loss.

        Raises:
            DataError: the data of a resumed run has changed.
            UnsupportedError: the number format of a resumed run has changed, or the disk is full.
        """
        run = self.run
        self._data = data
        self._is_main = args.process_index == 0
        self.settings = dataclasses.replace(self.settings, max_length=data.facts["max_length"])
        self._checkpoints = Checkpoints(self._interrupt, run, data.evaluates, self.settings)
        self._checkpoint = checkpoints.newest(run.checkpoints_folder)
        if self.resumed:
            check_unchanged(run.record, self.model, data.facts)
            if self._is_main:
                if self._checkpoint is not None:
                    checkpoints.restore_logs(run.path, self._checkpoint)
                self._checkpoints.tidy()
            self._print(f"plan    {resumed_sentence(run.record, self._checkpoint)}")
        args.eval_on_start = data.evaluates and self._checkpoint is None
        self.step = checkpoints.step_of(self._checkpoint) if self._checkpoint else 0
        self._log = RunLog(run, self.step)
        self._plan = self._step_plan()
        self._measures = measures
        if measures is not None:
            measures.begin(run, self._log)
        if not self.resumed:
            self._print_plan()
        if self._is_main:
            record = None
            if not self.resumed:
                record = first_record(self.settings, self.model, data, self._plan)
                record |= planned_probe(self.settings, self._explicit, record["steps"])
                record |= self._run_plan.record() if self._run_plan else {}
                record["day"] = str(self._day)  # as templates that write the date did
                if measures is not None:
                    record["eval_metrics"] = measures.facts
            save_start(run, self._loaded, record)
        self._diagnosis = Diagnosis(run, self._print)
        return [self._checkpoints, self._log, self._diagnosis]

    def train(self, trainer: RunTrainer) -> None:
        """Train from the last complete checkpoint, or from the start, and write the adapter.

        Raises:
            DivergedError: the loss is no longer a number.
            UnsupportedError: the disk is full.
            KeyboardInterrupt: a second interruption; the last checkpoint stays.
        """
        trainer.base_name = published_name(self.settings.model)
        trainer.measure = None if self._measures is None else self._measures.measure
        for sentence in unmergeable(trainer.model) if trainer.has_adapter else ():
            self._print(f"plan    {sentence}")
        trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        if self._is_main:
            self.run.update(model={**self.run.record["model"], "trained_parameters": trained})
        undo = self._accelerated(trainer)
        try:
            self._steps(trainer)
        except DivergedError as e:
            self._record_end(trainer.state.global_step, "diverged", diverged=str(e))
            raise
        finally:
            undo()
        self._finish(trainer)

    def _step_plan(self) -> StepPlan | None:
        """Return the plan of a step, that of the start when resumed; None without acceleration."""
        if not self.settings.accelerate:
            return None
        if self.resumed:
            return StepPlan(**self.run.record["planned"])
        if self._run_plan is not None:
            return self._run_plan.step
        return plan_step(self.model, self._data.rows.train, self.settings)

    def _print_plan(self) -> None:
        """Print what will be trained on, and what of the data will not be seen."""
        sentences = [*data_sentences(self._data, self.settings), weights_sentence(self.model)]
        if self._plan is not None:
            sentences.append(self._plan.sentence)
        sentences += self._run_plan.sentences() if self._run_plan else ()
        if self._measures is not None:
            sentences.append(self._measures.sentence)
        if self._loaded.difference:
            sentences.append(f"the given model is saved with the run: {self._loaded.difference}")
        for sentence in sentences:
            self._print(f"plan    {sentence}")

    def _accelerated(self, trainer: RunTrainer) -> Callable[[], None]:
        """Accelerate the trainer as planned and return its undo."""
        if self._plan is None:
            return lambda: None
        activations, at_once = self._plan.activations, self._plan.micro_batch_tokens
        accelerate(trainer, activations=activations, micro_batch_tokens=at_once)
        compact = compact_forward(trainer)
        if compact is not None and trainer.has_adapter:  # whole weights: squares would cost time
            trainer.noise = compact.noise = GradientNoise()
        return lambda: restore(trainer)

    def _steps(self, trainer: RunTrainer) -> None:
        bar = None
        if self._progress is not None:
            trainer.add_callback(StepProgress(self._progress))
        elif self.console.is_terminal and not self.console.quiet:
            trainer.add_callback(bar := ProgressBar(self.console))
        elif not self.console.quiet:
            trainer.add_callback(StepLines(self.console))
        start = self._checkpoint
        try:
            with self._interrupt.listening(self.console):
                early = start is not None and self._checkpoints.stopped_early(
                    checkpoints.step_of(start)
                )
                if start is None and not probe(self.run, trainer, self._interrupt, self._print):
                    return
                if start is None or not trainer.load_finished(start, early):
                    trainer.train(resume_from_checkpoint=str(start) if start else None)
        finally:
            if bar is not None:
                bar.close()

    def _finish(self, trainer: RunTrainer) -> None:
        """Write the adapter, of the last step or of the best, and the report."""
        run, state = self.run, trainer.state
        ended = state.global_step >= state.max_steps > 0
        early = not ended and self._checkpoints.stopped_early(state.global_step)
        finished = ended or early
        best = self._checkpoints.best_facts() if finished else None
        if best is not None:
            trainer.load_step(best["step"])
        if not self._is_main:
            return
        if best:
            run.update(best=best, **({"stopped_early": True} if early else {}))
        if finished:
            with written_whole(run.adapter_folder) as path:
                trainer.save_model(str(path))
                save_tokenizer(run, path)
            save_activation_stats(run, self.model, self._data.texts)
            self._record_end(
                state.global_step,
                "finished",
                **digests(run),
                diverged=outcome(run.log, run.record).diverged,
            )
        else:
            self._record_end(state.global_step, "interrupted")
            self._print(f"stopped after step {state.global_step} of {state.max_steps}")
        for sentence in result_sentences(run):
            self._print(f"result  {sentence}")

    def _record_end(self, step: int, status: str, **facts: Any) -> None:
        """Write how the run ended, and the report."""
        if not self._is_main:
            return
        self.run.update(status=status, steps_done=step, measured=self._log.measured(), **facts)
        self._diagnosis.finish()
        report.write(self.run)

    def _print(self, sentence: str) -> None:
        self.console.print(sentence, soft_wrap=True, highlight=False, markup=False)
