"""A short training step of a model's own shapes, timed in float32 and in bfloat16 on this machine's CPU.

Weights are random, and of the blocks as many as the time allows: they are all alike.
"""

import time
from typing import Any

import torch
from torch import Tensor, nn

from strop.core.quiet import quiet
from strop.core.tokens import IGNORE_INDEX
from strop.forward.compact import CompactForward, install
from strop.forward.decoder.blocks import all_known
from strop.models.dtype import SIZES, VOCABULARY, parameters, sizes_of
from strop.models.meta_model import outline
from strop.models.precision import Bits

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
RANK = 16
TOKENS = 512
"""Of the step, in four rows, the last quarter of each learned."""
WORK = 25e9
"""Floating-point operations of a step: some tenths of a second."""
LARGEST = 70_000_000
"""Weights of a block above which `LARGE` is timed instead: its products are as fast, its memory is not."""
LARGE = dict(zip(SIZES, (2048, 8192, 16, 16, 8, 128, 8_192), strict=True))
ROUNDS, SECONDS = 7, 2.0
"""Most rounds that are timed, and seconds after which there is no further one."""


def step_seconds(config: Any, bits: Bits) -> dict[str, list[float]]:
    """Return the seconds of a step in each format, round by round, the formats timed in turn.

    Args:
        config: of a transformers model; None stands for a small one.
        bits: the frozen weights are held in.
    """
    sizes = sizes_of(config)
    block, head = parameters(sizes)
    if block > LARGEST:
        config, sizes = None, LARGE
        block, head = parameters(sizes)
    blocks = int((WORK / (4 * TOKENS) - head / 4) / block)
    blocks = max(1, min(blocks, sizes["num_hidden_layers"]))
    tokens = min(TOKENS, max(64, int(WORK / (4 * (blocks * block + head / 4)))))
    with (
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.enable_grad(),
        quiet(),
    ):
        torch.manual_seed(0)
        steps = {
            name: _Step(config, sizes, blocks, tokens, bits, dtype)
            for name, dtype in FORMATS.items()
        }
        first = {name: step.seconds() for name, step in steps.items()}  # warms up
        if max(first.values()) > SECONDS:
            return {name: [seconds] for name, seconds in first.items()}
        rounds: dict[str, list[float]] = {name: [] for name in steps}
        end = time.perf_counter() + SECONDS
        for number in range(ROUNDS):
            if number and time.perf_counter() > end:
                break
            for name, step in steps.items():
                rounds[name].append(step.seconds())
    return rounds


class _Step:
    """Forward and backward of a few blocks and the head, with an adapter on all linear layers."""

    def __init__(
        self,
        config: Any,
        sizes: dict[str, int],
        blocks: int,
        tokens: int,
        bits: Bits,
        dtype: torch.dtype,
    ) -> None:
        model = _outlined(config, sizes, blocks, bits, dtype)
        model.to_empty(device="cpu")
        for t in (*model.parameters(), *model.buffers()):
            _fill(t.data)
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._compact: CompactForward = install(model, activations="keep", linear_loss=True)[0]
        length = tokens // 4
        self._ids = torch.randint(min(sizes["vocab_size"], VOCABULARY), (4, length))
        self._labels = torch.full((4, length), IGNORE_INDEX)
        self._labels[:, -(length // 4) :] = self._ids[:, -(length // 4) :]

    def seconds(self) -> float:
        """Run the step and return what it took."""
        start = time.perf_counter()
        micro_batches = self._compact.micro_batches(self._labels, {"input_ids": self._ids})
        assert micro_batches is not None, "rows without padding have a compact form"
        self._compact.answer(micro_batches, self._labels, None).loss.backward()
        for parameter in self._trained:
            parameter.grad = None
        return time.perf_counter() - start


def _outlined(
    config: Any, sizes: dict[str, int], blocks: int, bits: Bits, dtype: torch.dtype
) -> nn.Module:
    """Return the model with a few blocks, or a Llama of its sizes where its family has no halves."""
    fewer = {"num_hidden_layers": blocks, "vocab_size": min(sizes["vocab_size"], VOCABULARY)}
    sized = {"model_type": "llama", **sizes, **fewer}
    if config is not None and config.get_text_config() is config:
        plain = {k: v for k, v in config.to_dict().items() if k not in _LEFT_OUT}
        layers = sizes["num_hidden_layers"]
        cut = {k: v[:blocks] for k, v in plain.items() if isinstance(v, list) and len(v) == layers}
        model = outline({**plain, **cut, **fewer}, bits=bits, dtype=dtype, rank=RANK)
        if all_known(model.get_base_model().get_decoder()):
            return model
    return outline(sized, bits=bits, dtype=dtype, rank=RANK)


_LEFT_OUT = {
    "quantization_config",
    "dtype",
    "torch_dtype",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
}


def _fill(t: Tensor) -> None:
    """Fill with random numbers, none so small or large that arithmetic would take longer."""
    if t.is_floating_point():
        t.uniform_(-0.05, 0.05)
    elif t.dtype == torch.uint8:
        t.random_(0, 256)
    else:
        t.zero_()
