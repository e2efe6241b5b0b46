"""Runs some of TRL's own test modules, plain or accelerated, and notes what each test did.

Accelerated, each micro-batch is computed twice on the same weights, inputs and random state: once by
TRL's own forward, once by strop's. Noted are the errors of the loss, of the gradient as a whole (by its
norm) and of each metric. Where one is beyond rounding in float32, the micro-batch is computed both ways
in float64, too.
"""

import ast
import contextlib
import functools
import importlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import trl
from trl.trainer.base_config import _BaseConfig
from trl_comparison import compare, lines

import strop

TRAINERS = ("SFTTrainer", "DPOTrainer", "KTOTrainer", "GRPOTrainer", "RLOOTrainer")
LONGEST = 4
"""Optimizer steps that are trained at most."""
LIMIT = 90
"""Seconds that a test may take."""


class Recorder:
    """A plugin of pytest: accelerates what is trained, and appends one line of JSON for each test."""

    def __init__(self, record: Path, accelerated: bool) -> None:
        self.record, self.accelerated = record, accelerated
        self.done = {line["test"] for line in lines(record)}
        if not accelerated:
            ours = lines(Path(str(record).replace("-plain", "-accelerated")))
            self.done |= {line["test"] for line in ours if line["outcome"] != "failed"}
        self.compared: list[dict[str, Any]] = []
        self.said: list[str] = []

    @pytest.hookimpl(trylast=True)  # once the slow ones are out
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out what the record already has, and plainly what did not fail accelerated."""
        self.record.with_suffix(".collected").write_text(str(len(items)))
        items[:] = [item for item in items if _name(item.nodeid) not in self.done]

    def pytest_runtest_logstart(self) -> None:
        """Begin a new line."""
        self.compared, self.said = [], []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        """Fail a test that takes too long."""
        signal.signal(signal.SIGALRM, _stop)
        signal.alarm(LIMIT)
        try:
            return (yield)
        finally:
            signal.alarm(0)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write a test's line once it is known."""
        if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
            line = {
                "test": _name(report.nodeid),
                "outcome": report.outcome,
                "why": "" if report.outcome == "passed" else str(report.longrepr)[-400:],
                "seconds": round(report.duration, 2),
                "compared": self.compared,
                "said": sorted(set(self.said)),
            }
            with self.record.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    def train(self, original: Any) -> Any:
        """Return `train` of a trainer, cut short and accelerated."""

        @functools.wraps(original)
        def train(trainer: Any, *args: Any, **named: Any) -> Any:
            if not 0 < trainer.args.max_steps <= LONGEST:
                trainer.args.max_steps = LONGEST
            if self.accelerated and not _compacts(trainer):
                strop.accelerate(trainer)
            try:
                return original(trainer, *args, **named)
            finally:
                self.said += [
                    t for c in _compacts(trainer) for t in c.reported | c.backbone.reported
                ]

        return train

    def compute_loss(self, original: Any) -> Any:
        """Return `compute_loss` of a trainer, that compares both ways of a micro-batch."""

        @functools.wraps(original)
        def compute_loss(trainer: Any, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
            compacts = _compacts(trainer)
            if not compacts or not torch.is_grad_enabled() or not trainer.model.training:
                return original(trainer, model, inputs, *args, **named)
            answer, compared = compare(
                trainer,
                compacts,
                lambda given: original(trainer, model, given, *args, **named),
                inputs,
            )
            self.compared.append(compared)
            return answer

        return compute_loss

    @pytest.fixture
    def lazy_shared_datadir(self, request: Any) -> Path:
        """Stand for pytest-datadir's fixture: the folder of the tests' data."""
        return Path(request.path).parent / "data"

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put both into TRL's trainers, and turn off the 16-bit autocast that TRL has by default."""
        patch = pytest.MonkeyPatch()
        settle = _BaseConfig.__post_init__

        def settled(config: Any) -> None:
            config.bf16 = False if config.bf16 is None else config.bf16
            settle(config)

        patch.setattr(_BaseConfig, "__post_init__", settled)
        for name in TRAINERS:
            kind = getattr(trl, name)
            patch.setattr(kind, "train", self.train(kind.train))
            patch.setattr(kind, "compute_loss", self.compute_loss(kind.compute_loss))
        try:
            yield
        finally:
            patch.undo()


def _stop(*_: Any) -> None:
    raise TimeoutError(f"took over {LIMIT} seconds")


def _compacts(trainer: Any) -> list[Any]:
    """Return strop's forwards of an accelerated trainer's models."""
    watches = [c for c in trainer.callback_handler.callbacks if type(c).__name__ == "_Watch"]
    found = []
    for model in (trainer.model, getattr(trainer, "ref_model", None)):
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        forward = vars(base).get("forward") if watches and base is not None else None
        cells = getattr(getattr(forward, "__func__", None), "__closure__", None) or ()
        found += [
            c.cell_contents for c in cells if type(c.cell_contents).__name__ == "CompactForward"
        ]
    return found


def _absent(*_: Any, **__: Any) -> bool:
    """Stand for a name that is not there; asked whether a package is, it says no."""
    return False


def _lend_names(file: Path) -> None:
    """Let a test module import names that this version of TRL no longer has; their tests fail plainly."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trl."):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                if not hasattr(module, name.name):
                    setattr(module, name.name, _absent)


def _name(nodeid: str) -> str:
    return nodeid.partition("tests/")[2]


def main() -> int:
    """Run `trl_worker.py RECORD plain|accelerated CHECKOUT MODULE [ARGUMENT OF PYTEST …]`.

    Plainly only those tests run that failed accelerated.
    """
    record, way, checkout, module, *more = sys.argv[1:]
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    recorder = Recorder(Path(record), way == "accelerated")
    file = Path(checkout) / "tests" / f"test_{module}_trainer.py"
    slow = ["-m", "not slow", "-p", "no:cacheprovider", "-q", "--no-header", "--tb=short"]
    for read in (file, file.parent / "testing_utils.py"):
        _lend_names(read)
    with recorder.in_place():
        return int(
            pytest.main([str(file), *slow, f"--rootdir={checkout}", *more], plugins=[recorder])
        )


if __name__ == "__main__":
    sys.exit(main())
