"""What calibration text tells of each linear layer: how large inputs and output gradients are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from strop.layers.spill import Spill
from strop.quantization.decoder import Block, Decoder
from strop.quantization.gram import feedback

Tell = Callable[[str, int, int], None]
"""Is told a stage, how many of its parts are done, and how many there are."""
LONGEST = 4.0
"""Square of an input over the median's, beyond which it counts no more."""
ROWS = 128
"""Rows whose logits are held at once."""


@dataclass(slots=True)
class Layer:
    """One linear layer as the calibration text uses it."""

    group: str
    """The first layer that reads the same input: they are computed together."""
    shape: tuple[int, int]
    energy: Tensor
    """[D] mean square of each input."""
    residual: Tensor
    """[D] mean square of what the later inputs do not tell of each input: its error's price
    where errors are fed back."""
    gradient: Tensor = field(default_factory=lambda: torch.zeros(0))
    """[E] mean square of the gradient of the log-likelihood at each output."""


def groups(layers: Mapping[str, Layer]) -> dict[str, list[str]]:
    """Return the layers that read the same input together, by the first of them."""
    members: dict[str, list[str]] = {}
    for name, layer in layers.items():
        members.setdefault(layer.group, []).append(name)
    return members


class Grams:
    """Gram matrices of the inputs of a block's linear layers, one for layers that share theirs."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.group: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self._last: tuple[str, Tensor] | None = None

    def take(self, name: str, x: Tensor) -> None:
        """Add the rows of the input of a layer; layers given the very same tensor are a group."""
        if self._last is not None and self._last[1] is x:
            self.group[name] = self._last[0]
            return
        self._last = (name, x)
        rows = _bounded(x.flatten(0, -2))
        self.group[name] = name
        self.rows[name] = self.rows.get(name, 0) + len(rows)
        if name not in self.sums:
            self.sums[name] = rows.new_zeros(rows.shape[1], rows.shape[1])
        self.sums[name].addmm_(rows.T, rows)

    def __getitem__(self, name: str) -> Tensor:
        """Return the mean of x x^T [D, D] over the inputs of a layer."""
        group = self.group[name]
        return self.sums[group] / self.rows[group]


def _bounded(rows: Tensor) -> Tensor:
    """Shorten the rows whose square is above `LONGEST` times the median's.

    A few tokens, such as the first of a text, have inputs so large that they would be all that a
    mean square shows, and hardly matter for the next token.
    """
    squares = rows.square().sum(1)
    bound = LONGEST * squares.median()
    return (
        rows
        * (bound / squares.clamp_min(torch.finfo(rows.dtype).tiny)).clamp_max(1).sqrt()[:, None]
    )


def calibrate(decoder: Decoder, entering: Sequence[Tensor], tell: Tell) -> dict[str, Layer]:
    """Run calibration text forth and back through the blocks, one block at a time.

    The gradient is that of the log-likelihood of next tokens drawn from the model's own
    distribution, so that its mean square is the diagonal of the Fisher information: a change d of
    a layer's output costs about d^2 gradient / 2 nats, whatever the text says.

    Args:
        decoder: the unquantised model.
        entering: [1, T, D] of each sequence, before the first block.
        tell: is told how far it is.

    Returns:
        Each linear layer by its name.
    """
    layers: dict[str, Layer] = {}
    spill, places = Spill("calibration", "give less text"), []
    hidden = list(entering)
    total = 2 * len(decoder.blocks)
    with torch.no_grad():
        for i in range(len(decoder.blocks)):
            block, grams = decoder.copied(i), Grams()
            places.append([spill.put(rows) for rows in hidden])
            with block.inputs(grams.take):
                hidden = [block(rows) for rows in hidden]
            layers.update(_described(block, grams))
            tell("measuring inputs and gradients", i + 1, total)
    generator = torch.Generator().manual_seed(0)
    gradients = [_fisher_gradient(decoder, rows, generator) for rows in hidden]
    tokens = sum(rows.shape[1] for rows in hidden)
    for i in reversed(range(len(decoder.blocks))):
        sums: dict[str, Tensor] = {}

        def take(name: str, gradient: Tensor, sums: dict[str, Tensor] = sums) -> None:
            energy = gradient.flatten(0, -2).square().sum(0)
            sums[name] = sums[name] + energy if name in sums else energy

        block = decoder.copied(i)
        with block.output_gradients(take):
            for s in reversed(range(len(gradients))):
                rows = spill.take(places[i][s]).requires_grad_()
                (gradients[s],) = torch.autograd.grad(block(rows), rows, gradients[s])
        for name, energy in sums.items():
            layers[name].gradient = energy / tokens
        tell("measuring inputs and gradients", total - i, total)
    return layers


def _described(block: Block, grams: Grams) -> dict[str, Layer]:
    residuals = {name: _residual(grams[name], grams.rows[name]) for name in grams.sums}
    return {
        name: Layer(
            group=grams.group[name],
            shape=(linear.out_features, linear.in_features),
            energy=grams[name].diagonal().clone(),
            residual=residuals[grams.group[name]],
        )
        for name, linear in block.linears.items()
        if name in grams.group
    }


def _residual(gram: Tensor, rows: int) -> Tensor:
    """Return what of each input's mean square the later inputs do not tell, on text unseen.

    On the rows it was fitted to, a regression on p inputs leaves 1 - p / N of that, and on others
    1 + p / N; more than the mean square itself is never left.
    """
    fitted = feedback(gram).diagonal().pow(-2)
    later = torch.arange(len(gram) - 1, -1, -1, device=gram.device) / rows
    unseen = torch.where(later < 1, (1 + later) / (1 - later).clamp_min(0), torch.inf)
    return torch.minimum(fitted * unseen, gram.diagonal())


def _fisher_gradient(decoder: Decoder, hidden: Tensor, generator: torch.Generator) -> Tensor:
    """Return the gradient [1, T, D] of the log-likelihood of tokens drawn from the model."""
    parts = []
    for part in hidden[0].split(ROWS):
        rows = part.detach().requires_grad_()
        log_probs = decoder.logits(rows).log_softmax(-1)
        drawn = torch.multinomial(log_probs.detach().exp().cpu(), 1, generator=generator)
        likelihood = log_probs.gather(1, drawn.to(log_probs.device)).sum()
        parts += torch.autograd.grad(likelihood, rows)
    return torch.cat(parts)[None]
