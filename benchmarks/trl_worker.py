"""Run some of TRL's own test modules, plain or accelerated, and note the outcome of each test.

Accelerated, each micro-batch is computed twice on the same weights, inputs and random state: once by
TRL's own forward, once by strop's. Noted are the errors of the loss, of the gradient as a whole (by its
norm) and of each metric. Where one is beyond rounding in float32, the micro-batch is computed both ways
in float64, too. A trainer that strop refuses trains plainly, and the record says so.
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
from strop.core.errors import UnsupportedError

TRAINERS = (
    *("SFTTrainer", "DPOTrainer", "KTOTrainer", "GRPOTrainer", "RLOOTrainer"),
    "RewardTrainer",
)
LONGEST = 4
"""Optimizer steps that are trained at most."""
LIMIT = 300
"""Seconds that a test may take."""


class Recorder:
    """A plugin of pytest: accelerates what is trained, and appends one line of JSON for each test."""

    def __init__(self, record: Path, accelerated: bool) -> None:
        self.record, self.accelerated = record, accelerated
        self.done = {n for n, line in lines(record).items() if line["outcome"] != "skipped"}
        self.slow: set[str] = set()
        self.compared: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.refusal = ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out what ran before; what was skipped may run now."""
        self.record.with_suffix(".collected").write_text(str(len(items)))
        self.slow = {_name(i.nodeid) for i in items if i.get_closest_marker("slow") is not None}
        items[:] = [item for item in items if _name(item.nodeid) not in self.done]

    def pytest_runtest_logstart(self) -> None:
        """Begin a new line."""
        self.compared, self.messages, self.refusal = [], [], ""

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
                "slow": _name(report.nodeid) in self.slow,
                "outcome": report.outcome,
                "why": _reason(report),
                "seconds": round(report.duration, 2),
                "compared": self.compared,
                "messages": sorted(set(self.messages)),
                "refusal": self.refusal,
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
                self.refusal = _refusal(trainer)
            try:
                return original(trainer, *args, **named)
            finally:
                self.messages += [
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
                lambda batch: original(trainer, model, batch, *args, **named),
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
        """Put both into TRL's trainers, and turn 16-bit autocast off: TRL's default, and fp16's."""
        patch = pytest.MonkeyPatch()
        settle = _BaseConfig.__post_init__

        def without_autocast(config: Any) -> None:
            config.bf16 = False if config.bf16 is None else config.bf16
            config.fp16 = False
            settle(config)

        patch.setattr(_BaseConfig, "__post_init__", without_autocast)
        for name in TRAINERS:
            kind = getattr(trl, name)
            patch.setattr(kind, "train", self.train(kind.train))
            patch.setattr(kind, "compute_loss", self.compute_loss(kind.compute_loss))
        try:
            yield
        finally:
            patch.undo()


def _reason(report: Any) -> str:
    """Return the reason of a skip, or the end of a failure's traceback."""
    if report.outcome == "passed":
        return ""
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr)[-400:]


def _stop(*_: Any) -> None:
    raise TimeoutError(f"took over {LIMIT} seconds")


def _compacts(trainer: Any) -> list[Any]:
    """Return strop's forwards of an accelerated trainer's models."""
    watches = [c for c in trainer.callback_handler.callbacks if type(c).__name__ == "_Watch"]
    compacts = []
    for model in (trainer.model, getattr(trainer, "ref_model", None)):
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        forward = vars(base).get("forward") if watches and base is not None else None
        cells = getattr(getattr(forward, "__func__", None), "__closure__", None) or ()
        compacts += [
            c.cell_contents for c in cells if type(c.cell_contents).__name__ == "CompactForward"
        ]
    return compacts


def _refusal(trainer: Any) -> str:
    """Accelerate a trainer; return why strop refused it, having left it as it was."""
    before = _settings(trainer)
    try:
        strop.accelerate(trainer)
    except UnsupportedError as e:
        assert _settings(trainer) == before, "a refused trainer was changed"
        return str(e)
    return ""


def _settings(trainer: Any) -> tuple[Any, ...]:
    """Return what `accelerate` changes: forwards, hooks, callbacks, arguments."""
    models = [m for m in (trainer.model, getattr(trainer, "ref_model", None)) if m is not None]
    modules = [module for model in models for module in model.modules()]
    forwards = [vars(module).get("forward") for module in modules]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules]
    methods = sorted(name for name, value in vars(trainer).items() if callable(value))
    callbacks = [type(c) for c in trainer.callback_handler.callbacks]
    return trainer.args.to_dict(), forwards, hooks, methods, callbacks


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


def _without_accelerators(checkout: Path) -> None:
    """Let tests run on a CPU that TRL keeps for accelerators."""
    sys.path.insert(0, str(checkout))
    testing = importlib.import_module("tests.testing_utils")
    for name in ("require_torch_accelerator", "require_torch_multi_accelerator"):
        setattr(testing, name, _same)


def _same(test: Any) -> Any:
    """Return the test as it is."""
    return test


def main() -> int:
    """Run `trl_worker.py RECORD plain|accelerated CHECKOUT MODULE [ARGUMENT OF PYTEST …]`."""
    record, way, checkout, module, *more = sys.argv[1:]
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    recorder = Recorder(Path(record), way == "accelerated")
    tests = Path(checkout) / "tests"
    file = tests / f"test_{module}_trainer.py"
    options = ["-p", "no:cacheprovider", "-q", "--no-header", "--tb=short"]
    for source in (file, tests / "testing_utils.py"):
        _lend_names(source)
    _without_accelerators(Path(checkout))
    with recorder.in_place():
        return int(
            pytest.main([str(file), *options, f"--rootdir={checkout}", *more], plugins=[recorder])
        )


if __name__ == "__main__":
    sys.exit(main())
