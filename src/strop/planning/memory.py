"""Peak memory and arithmetic of a training step, without the weights and without the device.

The code that trains runs on fake tensors, which have shapes but no numbers,
while every allocation is followed. For CUDA that happens in a process of its own, whose card is
simulated (`strop.core.simulated.fake_cuda`); a card is neither needed nor used.

Not seen are what single kernels and libraries take for themselves (cuBLAS and MKL work space, the
CUDA context) and what an allocator loses to rounding and fragmentation, but for one thing: on a CPU
`Step.resident` counts small blocks for good, as glibc does.
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from strop.core.errors import ConfigError, UnsupportedError
from strop.core.simulated.allocations import Allocations
from strop.core.tokens import IGNORE_INDEX
from strop.forward.compact import CompactForward, install
from strop.forward.compaction import CompactBatch
from strop.models.meta_model import outline
from strop.planning.flops import Flops
from strop.planning.step import Setup, Step

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def simulate(*setups: Setup) -> list[Step]:
    """Return what a training step of each setup needs.

    A step is forward, backward, clipping and AdamW, of a loss that is a sum over labelled tokens.

    Raises:
        ConfigError: a setup cannot work.
        UnsupportedError: for CUDA, there is neither a PyTorch with CUDA nor a C++ compiler.
    """
    for setup in setups:
        _check(setup)
    if all(setup.device == "cpu" for setup in setups):
        return [simulate_here(setup) for setup in setups]
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "strop.core.simulated.fake_cuda",
            "strop.planning.simulate_cuda",
        ],
        input=json.dumps([setup.plain() for setup in setups]),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnsupportedError(f"the training step cannot be simulated:\n{done.stderr[-2000:]}")
    return [Step(**step) for step in json.loads(done.stdout.splitlines()[-1])]


def simulate_here(setup: Setup) -> Step:
    """Return what a training step of `setup` needs, in a process that has its device or simulates it."""
    dtype = DTYPES[setup.dtype]
    model = outline(
        setup.config, bits=setup.bits, dtype=dtype, rank=setup.rank, targets=setup.targets
    )
    ids, labels = _batch(setup)
    fake, seen = FakeDevice(), Allocations(setup.device)
    place(model, fake, setup.device)
    compact, _ = install(
        model,
        activations=setup.activations,
        micro_batch_tokens=setup.micro_batch_tokens,
        linear_loss=True,
    )
    micro_batches = compact.micro_batches(labels, {"input_ids": ids})
    assert micro_batches is not None, "rows without padding have a compact form"
    with torch.autograd.set_multithreading_enabled(False), fake, seen:
        placed = [_placed(micro_batch, setup.device) for micro_batch in micro_batches]
        faked = _faked(labels, setup.device)
        return _step(model, compact, placed, faked, seen, in_backward=setup.update_in_backward)


class FakeDevice(FakeTensorMode):
    """Fake tensors on any device, whether it is there or not."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    @property
    def avoid_device_init(self) -> bool:
        """Whether to leave the device alone."""
        return True


def _check(setup: Setup) -> None:
    answers = setup.answers or ()
    wrong = []
    if not setup.rows or min(setup.rows) < 2:
        wrong.append(f"rows is {setup.rows}; every row needs at least 2 tokens")
    if answers and len(answers) != len(setup.rows):
        wrong.append(f"answers has {len(answers)} numbers for {len(setup.rows)} rows")
    elif any(not 0 < answer < row for answer, row in zip(answers, setup.rows, strict=False)):
        wrong.append(f"answers is {answers}; each is at least 1 and shorter than its row")
    if setup.device not in ("cpu", "cuda"):
        wrong.append(f"device is {setup.device!r}; it must be cpu or cuda")
    if setup.dtype not in DTYPES:
        wrong.append(f"dtype is {setup.dtype!r}; it must be one of {', '.join(DTYPES)}")
    if wrong:
        raise ConfigError("the step cannot be simulated:\n  " + "\n  ".join(wrong))


def _batch(setup: Setup) -> tuple[Tensor, Tensor]:
    """Return token ids and labels [B, T] of rows that share no prefix."""
    shape = len(setup.rows), max(setup.rows)
    ids, labels = torch.zeros(shape, dtype=torch.int64), torch.full(shape, IGNORE_INDEX)
    answers = setup.answers or tuple(row - 1 for row in setup.rows)
    for b, (row, answer) in enumerate(zip(setup.rows, answers, strict=True)):
        ids[b, 0] = b
        labels[b, row - answer : row] = 0
    return ids, labels


def place(model: nn.Module, fake: FakeTensorMode, device: str) -> None:
    """Give every parameter and buffer a fake tensor on `device`; what was tied stays tied."""
    tensors = (
        *model.parameters(),
        *model.buffers(),
    )  # referenced here, so that no id is used again
    with fake:
        fakes = {id(old): torch.empty_like(old, device=device) for old in tensors}
        for module in model.modules():
            for name, old in [*module.named_buffers(recurse=False)]:
                setattr(module, name, fakes[id(old)])
            for name, parameter in [*module.named_parameters(recurse=False)]:
                new = fakes[id(parameter)]
                if not isinstance(new, nn.Parameter):
                    new = nn.Parameter(new, requires_grad=parameter.requires_grad)
                    fakes[id(parameter)] = new
                setattr(module, name, new)


def _placed(micro_batch: CompactBatch, device: str) -> CompactBatch:
    tensors: dict[str, Any] = {
        k: _faked(v, device)
        for k in micro_batch.__slots__
        if isinstance(v := getattr(micro_batch, k), Tensor)
    }
    return dataclasses.replace(micro_batch, **tensors)


def _faked(t: Tensor, device: str) -> Tensor:
    return torch.empty_like(t, device=device)


def _step(
    model: Any,
    compact: CompactForward,
    micro_batches: list[CompactBatch],
    labels: Tensor,
    seen: Allocations,
    *,
    in_backward: bool,
) -> Step:
    """Run a step with an optimizer that has its state, and return what it needed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    seen.claim("weights", (*model.parameters(), *model.buffers()))
    seen.claim("adapter", trained)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for state in optimizer.state.values():
        seen.claim("optimizer", (t for t in state.values() if isinstance(t, Tensor)))
    for parameter in trained:
        parameter.register_post_accumulate_grad_hook(
            _let_go if in_backward else lambda p: seen.claim("gradients", (p.grad,))
        )
    phases: list[dict[str, int]] = []
    before = seen.total
    with Flops() as flops:
        with _phase(seen, phases), seen.saved_for_backward("kept"):
            loss = compact.answer(micro_batches, labels, None).loss
        after_forward = seen.total
        with _phase(seen, phases):
            loss.backward()
        del loss
        with _phase(seen, phases):
            if not in_backward:
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
    most = max(phases, key=lambda kinds: sum(kinds.values()))
    peaks = (sum(kinds.values()) for kinds in phases)
    named = dict(zip(("forward", "backward", "optimizer"), peaks, strict=True))
    return Step(
        peak=sum(most.values()),
        at_peak=most,
        phases=named,
        before=before,
        after_forward=after_forward,
        resident=seen.resident if seen.device == "cpu" else 0,
        flops=flops.total,
        products=len(flops.products),
    )


def _let_go(parameter: Tensor) -> None:
    parameter.grad = None


@contextmanager
def _phase(seen: Allocations, phases: list[dict[str, int]]) -> Iterator[None]:
    """Add to `phases` what was held, by kind, when most was held inside the block."""
    seen.restart()
    yield
    phases.append({kind: size for kind, size in seen.at_peak.items() if size})
