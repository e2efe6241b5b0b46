"""Faults of a run, named as soon as they show: each once, on the terminal and in run.json."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from transformers import TrainerCallback

from strop.runs.diagnosis import diagnose
from strop.runs.diagnosis.finding import Finding
from strop.runs.diagnosis.history import of_run
from strop.runs.run import Run

EVERY_SHARE = 0.1
"""Steps between two diagnoses as a share of those taken: all of them together stay cheap."""


class Diagnosis(TrainerCallback):
    """Diagnoses the log of a run while it trains; stands behind the callback that writes it.

    Args:
        run: whose log is read, and whose record gets the faults.
        announce: takes a sentence for each new one.
    """

    def __init__(self, run: Run, announce: Callable[[str], None]) -> None:
        self._run = run
        self._announce = announce
        self._next = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Diagnose after an evaluation, and after steps that become rarer."""
        due = "eval_loss" in logs or ("loss" in logs and state.global_step >= self._next)
        if due and state.is_world_process_zero:
            self._next = state.global_step + math.ceil(EVERY_SHARE * state.global_step)
            for finding in self.update():
                self._announce(f"doctor  step {state.global_step:,}: {finding.sentence}")

    def finish(self) -> None:
        """Diagnose the whole run; what its result says itself is not announced again."""
        for finding in self.update():
            if finding.kind not in ("not_a_number", "diverged"):
                self._announce(f"doctor  {finding.sentence}")

    def update(self) -> list[Finding]:
        """Record the faults of the run that show by now, and return those that are new."""
        recorded = self._run.record.get("diagnosis", [])
        known = {finding["kind"] for finding in recorded}
        new = [finding for finding in diagnose(of_run(self._run)) if finding.kind not in known]
        if new:
            self._run.update(diagnosis=[*recorded, *map(asdict, new)])
        return new
