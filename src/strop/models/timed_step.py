"""A short training step of a model's own shapes, timed in float32 and in bfloat16 on this machine's CPU.

Weights are random, and of the blocks as many as the time allows: they are all alike.
"""

import contextlib
import time
from collections.abc import Iterator
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
FEWEST, ROUNDS, SECONDS = 2, 7, 2.0
"""Fewest and most rounds that are timed, and seconds after which there is no further one."""


def step_seconds(config: Any, bits: Bits) -> dict[str, list[float]]:
    """Return the seconds of a step in each format, round by round, the formats timed in turn.

    Args:
        config: of a transformers model; None stands for a small one.
        bits: the frozen weights are held in.
    """
    sizes = sizes_of(config)
    config, sizes, blocks = _few_blocks(config, sizes)
    block, head = parameters(sizes)
    tokens = min(TOKENS, max(64, int(WORK / (4 * (blocks * block + head / 4)))))
    with _training():
        steps = {name: _Step(config, sizes, blocks, bits, dtype) for name, dtype in FORMATS.items()}
        for step in steps.values():
            step.seconds(tokens)  # warms up: C++ may be compiled, which takes longer than a step
        rounds: dict[str, list[float]] = {name: [] for name in steps}
        end = time.perf_counter() + SECONDS
        for number in range(ROUNDS):
            if number >= FEWEST and time.perf_counter() > end:
                break
            for name, step in steps.items():
                rounds[name].append(step.seconds(tokens))
    return rounds


def micro_batch_seconds(config: Any, bits: Bits, dtype: torch.dtype) -> dict[str, Any]:
    """Return what two micro-batches of a few blocks take, and the optimizer's step on their adapters.

    Args:
        config: of a transformers model.
        bits: the frozen weights are held in.
        dtype: products run in.

    Returns:
        sizes: of the model timed, which for very large blocks is another; blocks: how many of them;
        tokens: of each micro-batch, in four rows, a quarter of them learned; seconds: rounds of each;
        optimizer: seconds; trained: weights of the adapters.
    """
    config, sizes, blocks = _few_blocks(config, sizes_of(config), work=WORK * MORE)
    with _training():
        step = _Step(config, sizes, blocks, bits, dtype)
        for tokens in (*MICRO_BATCHES, *MICRO_BATCHES):
            step.seconds(tokens)  # warms up
        rounds = [[step.seconds(tokens) for tokens in MICRO_BATCHES] for _ in range(TIMED)]
        optimizer = step.optimizer_seconds()
    return {
        "sizes": sizes,
        "blocks": blocks,
        "tokens": list(MICRO_BATCHES),
        "seconds": [list(of_size) for of_size in zip(*rounds, strict=True)],
        "optimizer": optimizer,
        "trained": step.trained,
    }


MORE = 3
"""Times the work of `WORK` in the larger of the two micro-batches."""
MICRO_BATCHES = (128, 768)
"""Tokens of the two."""
TIMED = 3
"""Rounds that are timed."""


def _few_blocks(
    config: Any, sizes: dict[str, int], work: float = WORK
) -> tuple[Any, dict[str, int], int]:
    """Return configuration, sizes and blocks of what is timed."""
    block, head = parameters(sizes)
    if block > LARGEST:
        config, sizes = None, LARGE
        block, head = parameters(sizes)
    blocks = int((work / (4 * TOKENS) - head / 4) / block)
    return config, sizes, max(1, min(blocks, sizes["num_hidden_layers"]))


@contextlib.contextmanager
def _training() -> Iterator[None]:
    """Let PyTorch train inside the block, with random numbers of its own."""
    with (
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.enable_grad(),
        quiet(),
    ):
        torch.manual_seed(0)
        yield


class _Step:
    """Forward and backward of a few blocks and the head, with an adapter on all linear layers."""

    def __init__(
        self,
        config: Any,
        sizes: dict[str, int],
        blocks: int,
        bits: Bits,
        dtype: torch.dtype,
    ) -> None:
        model = _outlined(config, sizes, blocks, bits, dtype)
        model.to_empty(device="cpu")
        for t in (*model.parameters(), *model.buffers()):
            _fill(t.data)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._compact: CompactForward = install(model, activations="keep", linear_loss=True)[0]
        self._words = min(sizes["vocab_size"], VOCABULARY)

    @property
    def trained(self) -> int:
        """Weights of the adapters."""
        return sum(p.numel() for p in self._parameters)

    def seconds(self, tokens: int) -> float:
        """Run a step of so many tokens and return what it took."""
        length = tokens // 4
        ids = torch.randint(self._words, (4, length))
        labels = torch.full((4, length), IGNORE_INDEX)
        labels[:, -(length // 4) :] = ids[:, -(length // 4) :]
        start = time.perf_counter()
        micro_batches = self._compact.micro_batches(labels, {"input_ids": ids})
        assert micro_batches is not None, "rows without padding have a compact form"
        self._compact.answer(micro_batches, labels, None).loss.backward()
        for parameter in self._parameters:
            parameter.grad = None
        return time.perf_counter() - start

    def optimizer_seconds(self) -> float:
        """Return what clipping and AdamW take."""
        optimizer = torch.optim.AdamW(self._parameters, lr=1e-4, fused=True)
        seconds = []
        for _ in range(2):  # the first makes the optimizer's state
            for parameter in self._parameters:
                parameter.grad = torch.full_like(parameter, 1e-3)
            start = time.perf_counter()
            torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
            optimizer.step()
            seconds.append(time.perf_counter() - start)
        return seconds[-1]


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
