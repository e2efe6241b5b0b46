"""Runs some of TRL's own test modules, plain or accelerated, and notes what each test did.

Accelerated, each micro-batch is computed twice on the same weights, inputs and random state: once by
TRL's own forward, once by strop's. Noted are the errors of the loss, of the gradient as a whole (by its
norm) and of each metric.
"""

import ast
import contextlib
import copy
import functools
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import trl
from trl.trainer.base_config import _BaseConfig

import strop

TRAINERS = ("SFTTrainer", "DPOTrainer", "KTOTrainer", "GRPOTrainer", "RLOOTrainer")
LONGEST = 4
"""Optimizer steps that are trained at most."""


class Recorder:
    """A plugin of pytest: accelerates what is trained, and appends one line of JSON for each test."""

    def __init__(self, record: Path, accelerated: bool, before: Path | None = None) -> None:
        self.record, self.accelerated = record, accelerated
        earlier = _lines(before) if before else []
        self.passed = {line["test"] for line in earlier if line["outcome"] != "failed"}
        self.done = {line["test"] for line in _lines(record)}
        self.module = record.stem.partition("-")[0]
        self.chosen: set[str] = set()
        self.compared: list[dict[str, Any]] = []
        self.said: list[str] = []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out what the record already has, and plainly what passes accelerated."""
        names = [_name(item.nodeid) for item in items]
        if self.accelerated:
            self.record.with_name(f"{self.module}.collected").write_text(str(len(names)))
        self.chosen = {n for n in names if n not in self.done and n not in self.passed}
        items[:] = [item for item, n in zip(items, names, strict=True) if n in self.chosen]

    def pytest_runtest_logstart(self) -> None:
        """Begin a new line."""
        self.compared, self.said = [], []

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
            trained = [p for p in trainer.model.parameters() if p.requires_grad]
            before, random = _state(trainer), torch.get_rng_state()
            with _plain(compacts):
                loss = original(trainer, model, dict(inputs), *args, **named)
                wanted = _gradients(loss, trained)
            theirs = _loss(loss).item(), wanted, _state(trainer)
            for name, value in before.items():
                setattr(trainer, name, value)
            torch.set_rng_state(random)
            answer = original(trainer, model, inputs, *args, **named)
            ours = _loss(answer).item(), _gradients(answer, trained), _state(trainer)
            self.compared.append(_errors(ours, theirs))
            return answer

        return compute_loss

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


@contextlib.contextmanager
def _plain(compacts: list[Any]) -> Iterator[None]:
    """Let models answer by TRL's own forward for a while."""
    bound = [vars(c.model)["forward"] for c in compacts]
    for compact in compacts:
        compact.model.forward = compact.previous
    try:
        yield
    finally:
        for compact, forward in zip(compacts, bound, strict=True):
            compact.model.forward = forward


def _state(trainer: Any) -> dict[str, Any]:
    """Return a copy of what compute_loss adds up beside the loss."""
    names = ("_metrics", "_total_train_tokens", "_logs")
    return {n: copy.deepcopy(vars(trainer)[n]) for n in names if n in vars(trainer)}


def _loss(answer: Any) -> torch.Tensor:
    return answer[0] if isinstance(answer, tuple) else answer


def _gradients(answer: Any, trained: list[Any]) -> list[torch.Tensor]:
    found = torch.autograd.grad(_loss(answer), trained, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g.detach()
        for p, g in zip(trained, found, strict=True)
    ]


def _errors(ours: Any, theirs: Any) -> dict[str, Any]:
    """Return the errors of loss and metrics relative to max(1, |x|), of the gradient to its norm."""
    (loss, gradients, state), (plain_loss, plain_gradients, plain_state) = ours, theirs
    apart = sum(
        float((a - b).double().square().sum())
        for a, b in zip(gradients, plain_gradients, strict=True)
    )
    whole = sum(float(b.double().square().sum()) for b in plain_gradients)
    metrics = {}
    for mode, names in plain_state.get("_metrics", {}).items():
        for name, values in names.items():
            for a, b in zip(state["_metrics"][mode][name], values, strict=True):
                if isinstance(b, int | float) and a != b:
                    metrics[name] = max(metrics.get(name, 0.0), abs(a - b) / max(1.0, abs(b)))
    return {
        "loss": abs(loss - plain_loss) / max(1.0, abs(plain_loss)),
        "gradient": (apart**0.5) / max(whole**0.5, 1e-12),
        "norm": whole**0.5,
        "metrics": metrics,
    }


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


def _lines(record: Path) -> list[dict[str, Any]]:
    if not record.exists():
        return []
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def _name(nodeid: str) -> str:
    return nodeid.partition("tests/")[2]


def main() -> int:
    """Run `trl_worker.py FOLDER plain|accelerated CHECKOUT MODULE [ARGUMENT OF PYTEST …]`.

    Plainly only those tests run that failed accelerated.
    """
    folder, way, checkout, module, *more = sys.argv[1:]
    records = {w: Path(folder) / f"{module}-{w}.jsonl" for w in ("plain", "accelerated")}
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    earlier = records["accelerated"] if way == "plain" else None
    recorder = Recorder(records[way], way == "accelerated", earlier)
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
