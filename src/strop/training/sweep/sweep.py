"""A sweep: its folder, its trials, and which is the best so far."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from strop.core.errors import ConfigError, DivergedError
from strop.core.files import read_json, write_json
from strop.data.reading.blend import lasting
from strop.planning.evaluations import BestModel
from strop.planning.settings import Settings
from strop.runs.run import Run
from strop.training.sweep import space as spaces
from strop.training.sweep import trial as trials

RECORD, JOURNAL = "sweep.json", "journal.log"
STARTUP = 4
"""Trials that are drawn before optuna models what is good, and before any is pruned."""


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """A trial as it stands."""

    number: int
    state: str
    settings: Mapping[str, Any]
    value: float | None
    seconds: float
    run: str


class Sweep:
    """A sweep in a folder: `sweep.json` says what is tried, optuna's journal what was.

    The journal is a file of one line an event, appended under a lock, so a killed sweep loses
    nothing but the steps of its trial since the last checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        """Open the sweep of a folder.

        Raises:
            ConfigError: there is none.
        """
        if not (folder / RECORD).is_file():
            raise ConfigError(f"{folder} is no sweep: it has no {RECORD}")
        self.folder = folder
        self.record = read_json(folder / RECORD)
        self.space = spaces.read_space(self.record["over"])
        self.by: BestModel = trials.criterion(Settings.read(self.record["settings"]))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
            study_name="sweep",
            load_if_exists=True,
            direction="maximize" if self.by.greater else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
        )

    @classmethod
    def new(
        cls,
        folder: Path,
        over: Mapping[str, Any],
        settings: Mapping[str, Any],
        *,
        budget: float | None,
        most: int | None,
    ) -> "Sweep":
        """Return a new sweep in a folder.

        Args:
            folder: new or empty.
            over: for each setting a list of values, or `low` and `high`.
            settings: of all trials.
            budget: seconds of all trials together, those before a resume included; None has no limit.
            most: number of trials; None has no limit.

        Raises:
            ConfigError: the folder is in use, the space cannot be tried, or nothing ends it.
        """
        space = spaces.read_space(over)
        spaces.check_space(space, settings)
        if spaces.grid(space) is None and not _ends(budget, most):
            raise ConfigError(
                "a sweep over a range has no end; set budget, as 1h, or trials, as 20"
            )
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; resume its sweep, or give another folder")
        folder.mkdir(parents=True, exist_ok=True)
        fixed = {**settings, "data": lasting(settings["data"])}
        record = {"over": spaces.plain(space), "settings": fixed, **_ends(budget, most)}
        write_json(folder / RECORD, record)
        sweep = cls(folder)
        for combination in spaces.grid(space) or [sweep.defaults()]:
            if combination:
                sweep._study.enqueue_trial(combination)
        return sweep

    def until(self, budget: float | None, most: int | None) -> None:
        """Take what ends the sweep in place of what it was begun with; None changes nothing."""
        self.record |= _ends(budget, most)
        write_json(self.folder / RECORD, self.record)

    def defaults(self) -> dict[str, Any]:
        """Return the settings' own values, where the space has all of them; they are tried first."""
        values = Settings().plain()
        inside = {
            name: values[name]
            for name, of in self.space.items()
            if (isinstance(of, spaces.Range) and of.low <= values[name] <= of.high)
            or (not isinstance(of, spaces.Range) and values[name] in of)
        }
        return inside if len(inside) == len(self.space) else {}

    def run(self, announce: Callable[[TrialFacts], None]) -> bool:
        """Train trials until the budget is spent, or nothing is left; return False if interrupted.

        Args:
            announce: is given each trial that ended.
        """
        budget, most = self.record.get("budget"), self.record.get("most")
        started, spent = time.monotonic(), sum(t.seconds for t in self.trials())
        while (trial := self._next(budget, most, spent + time.monotonic() - started)) is not None:
            deadline = None if budget is None else started + budget - spent
            begun = time.monotonic() - self._seconds(trial)
            chosen = spaces.suggest(trial, self.space)
            folder = self._folder(trial)
            given = {**self.record["settings"], **chosen}
            try:
                ended = trials.train_trial(trial, given, folder, deadline)
            except DivergedError:
                ended = trials.DIVERGED
            trial.set_user_attr("seconds", round(time.monotonic() - begun, 1))
            if ended == trials.STOPPED:
                return False
            trial.set_user_attr("ended", ended)
            value = trials.value_of(Run(folder)) if ended == trials.FINISHED else None
            state = TrialState.PRUNED if value is None else TrialState.COMPLETE
            self._study.tell(trial.number, value, state=state)
            announce(self._facts(self._study.trials[trial.number]))
        return True

    def _next(self, budget: float | None, most: int | None, spent: float) -> Any:
        """Return the trial to train next: one that was stopped, else a new one; None when done."""
        seen = self._study.trials
        for trial in seen:
            if trial.state == TrialState.RUNNING:
                return optuna.trial.Trial(self._study, trial.number)  # alone in its journal
        ended = [t for t in seen if t.state.is_finished()]
        waiting = any(t.state == TrialState.WAITING for t in seen)
        if spaces.grid(self.space) is not None and not waiting:
            return None
        if most is not None and len(ended) >= most:
            return None
        times = [t.user_attrs["seconds"] for t in ended if t.state == TrialState.COMPLETE]
        expected = statistics.median(times) if times else 0.0
        if budget is not None and spent + expected > budget:
            return None
        # What a trial tries depends on its number and those before it, however often it was resumed.
        seed = 1000 * int(self.record["settings"].get("seed", 0)) + len(seen)
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
        return self._study.ask()

    def trials(self) -> list[TrialFacts]:
        """Return the trials so far, in the order in which they began."""
        return [self._facts(t) for t in self._study.trials if t.state != TrialState.WAITING]

    def best(self) -> TrialFacts | None:
        """Return the best trial that finished."""
        finished = [t for t in self.trials() if t.value is not None]
        sign = -1 if self.by.greater else 1
        return min(finished, key=lambda t: sign * (t.value or 0.0), default=None)

    def _facts(self, trial: Any) -> TrialFacts:
        folder = self._folder(trial)
        settings = {name: trial.params[name] for name in self.space if name in trial.params}
        if Run.is_at(folder):
            settings = {name: Run(folder).settings[name] for name in self.space}
        return TrialFacts(
            trial.number,
            trial.user_attrs.get("ended", trials.STOPPED),
            settings,
            trial.value if trial.state == TrialState.COMPLETE else None,
            self._seconds(trial),
            str(folder),
        )

    def _seconds(self, trial: Any) -> float:
        """Return what a trial took so far; of one that was killed, its steps."""
        if "seconds" in trial.user_attrs or not Run.is_at(self._folder(trial)):
            return float(trial.user_attrs.get("seconds", 0.0))
        steps = [line["seconds"] for line in Run(self._folder(trial)).log if "loss" in line]
        return float(steps[-1]) if steps else 0.0

    def _folder(self, trial: Any) -> Path:
        return self.folder / f"trial-{trial.number:03d}"


def _ends(budget: float | None, most: int | None) -> dict[str, float]:
    """Return the given ones of a sweep's two ends, as its record has them."""
    ends = {"budget": budget, "most": most}
    return {name: value for name, value in ends.items() if value is not None}
