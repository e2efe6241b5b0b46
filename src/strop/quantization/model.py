"""A whole model into few bits: calibrate, choose formats within a budget, quantise, measure."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from strop.core.errors import ConfigError, DataError
from strop.core.progress import Progress, silent
from strop.quantization.allocation import Option
from strop.quantization.block import Decoder
from strop.quantization.calibration import calibrate
from strop.quantization.choices import Choices, choices
from strop.quantization.compress import Calibrated, Compressed, HeldOut, compress

AIM = 0.85
"""Of the KL that is asked for, aimed at after a miss: the estimate is good to some tenths."""
ROUNDS = 4
"""How often the model is quantised anew where a KL is asked for and was missed."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantised model: its weights, the choice behind them, and what they were measured to do."""

    compressed: Compressed
    chosen: dict[str, Option]
    """The format of each group of layers, by the group's first."""
    choices: Choices
    left: list[str]
    """Layers that no format fits; they stay as they are."""

    @property
    def formats(self) -> dict[str, str]:
        """Return the name of the format of each quantised layer."""
        return {name: form.name for name, form in self.choices.formats(self.chosen).items()}

    @property
    def bytes(self) -> int:
        """Return what the quantised layers take."""
        return sum(option.bytes for option in self.chosen.values())


def quantize_model(
    decoder: Decoder,
    entering: Sequence[Tensor],
    held_out: HeldOut,
    *,
    budget: float | None = None,
    max_kl: float | None = None,
    rank: int = 0,
    progress: Progress = silent,
) -> Quantized:
    """Quantise the linear layers of all blocks, with bits where they matter.

    Args:
        decoder: the unquantised model, which stays as it is.
        entering: [1, T, D] of each calibration sequence, before the first block.
        held_out: text the result is measured on.
        budget: bytes of the linear layers over those of plain NF4; or
        max_kl: the divergence from the original that is allowed, in nats per token, at the
            fewest bytes.
        rank: of adapters that make good for part of the error; 0 makes none.
        progress: called with each stage.

    Raises:
        ConfigError: the budget or the KL is out of reach.
        DataError: weights are NaN or infinite; all are named.
        UnsupportedError: no layer can be quantised.
    """
    check_finite(decoder)
    layers = calibrate(decoder, entering, progress)
    calibrated = Calibrated(entering, layers)
    measure = functools.partial(
        compress, decoder, calibrated, held_out, progress=progress, rank=rank
    )
    offered = choices(decoder, layers, progress)
    if max_kl is None:
        assert budget is not None
        chosen = offered.within(budget)
        compressed = measure(offered.formats(chosen))
    else:
        expected = max_kl
        for _ in range(ROUNDS):
            chosen = offered.below(expected)
            compressed = measure(offered.formats(chosen))
            if compressed.strop.kl <= max_kl:
                break
            expected *= AIM * max_kl / compressed.strop.kl
        else:
            raise ConfigError(
                f"a KL of {max_kl:g} nats per token was not reached: the last of {ROUNDS} attempts "
                f"came to {compressed.strop.kl:.3g}; allow more, or give a budget"
            )
    formats = offered.formats(chosen)
    names = [name for i in range(len(decoder.blocks)) for name in decoder.linears(i)]
    return Quantized(compressed, chosen, offered, [n for n in names if n not in formats])


def check_finite(decoder: Decoder) -> None:
    """Look through all weights of the blocks.

    Raises:
        DataError: some are NaN or infinite; all are named.
    """
    wrong = []
    for name, block in zip(decoder.names, decoder.blocks, strict=True):
        for parameter_name, parameter in block.named_parameters():
            if not parameter.isfinite().all():
                place = (~parameter.isfinite()).nonzero()[0].tolist()
                value = float(parameter[tuple(place)])
                wrong.append(f"{name}.{parameter_name} holds {value} at {place}")
    if wrong:
        raise DataError(
            "the weights are damaged, get the model again from a sound file:\n  "
            + "\n  ".join(wrong)
        )
