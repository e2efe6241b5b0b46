"""What calibration text tells of each linear layer: how large inputs and output gradients are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from strop.core.progress import Progress
from strop.core.system.spill import Spill
from strop.quantization.block import Block, Decoder
from strop.quantization.gram import feedback
from strop.quantization.linear_layers import watching_inputs, watching_output_gradients

MOST = 4.0
"""Weight of a token at most, over the median's of its text: a single token is a noisy guide."""
ROWS = 128
"""Rows whose logits are held at once."""


@dataclass(slots=True)
class LayerStats:
    """One linear layer as the calibration text uses it."""

    group: str
    """The first layer that reads the same input: they are computed together."""
    shape: tuple[int, int]
    energy: Tensor
    """[D] mean square of each input, its tokens weighed as in `Grams`."""
    conditional_variance: Tensor
    """[D] mean square of what the later inputs do not tell of each input: its error's price
    where errors are fed back."""
    output_grad_sq: Tensor
    """[E] mean square of the gradient of the log-likelihood at each output."""
    tokens: Tensor
    """[N] the weight of each token of the calibration text; the same for a group."""


def groups(layers: Mapping[str, LayerStats]) -> dict[str, list[str]]:
    """Return the layers that read the same input together, by the first of them."""
    members: dict[str, list[str]] = {}
    for name, layer in layers.items():
        members.setdefault(layer.group, []).append(name)
    return members


class Grams:
    """Gram matrices of the inputs of a block's linear layers, one for layers that share theirs.

        G = sum_t w[t] x[t] x[t]^T / sum_t w[t]

    The weight w of a token is the square of the gradient at the outputs of the layers, so that a
    token counts as much as an error there costs (GuidedQuant, arXiv:2505.07004, with one group of
    outputs). Tokens with enormous inputs that hardly matter, such as the first of a text, count
    little.

    Args:
        layers: statistics of the layers, for tokens in the same order. Without it a token
            counts alike however large its input is, w = 1 / |x|^2 up to a bound, and layers given
            the very same tensor one after another are a group.
    """

    def __init__(self, layers: Mapping[str, LayerStats] | None = None) -> None:
        self._layers = layers
        self._groups = {name: layer.group for name, layer in (layers or {}).items()}
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}
        self._seen: dict[str, int] = {}
        self._last: tuple[str, Tensor] | None = None

    def take(self, name: str, x: Tensor) -> None:
        """Add the rows of the input of a layer."""
        if self._layers is None:
            self._note(name, x)
        if self._groups.get(name) != name:
            return
        start = self._seen.get(name, 0)
        self._seen[name] = end = start + x.shape[:-1].numel()
        if self._layers is None:
            weights = _alike(x.flatten(0, -2).square().sum(1))
        else:
            weights = self._layers[name].tokens[start:end]
        _add(self._sums, name, _gram(x, weights))
        self._weights[name] = self._weights.get(name, 0.0) + float(weights.sum())

    def _note(self, name: str, x: Tensor) -> None:
        if self._last is not None and self._last[1].is_set_to(x):
            self._groups[name] = self._last[0]
        else:
            self._groups[name], self._last = name, (name, x)

    def __contains__(self, name: str) -> bool:
        """Whether the layer was given an input."""
        return self._groups.get(name) in self._sums

    def group(self, name: str) -> str:
        """Return the first layer that reads the same input."""
        return self._groups[name]

    def __getitem__(self, name: str) -> Tensor:
        """Return G [D, D] of the inputs of a layer."""
        group = self.group(name)
        return self._sums[group] / self._weights[group]


def _add(sums: dict[str, Tensor], name: str, more: Tensor) -> None:
    sums[name] = sums[name] + more if name in sums else more


def _gram(x: Tensor, weights: Tensor) -> Tensor:
    rows = x.flatten(0, -2) * weights.sqrt()[:, None]
    return rows.T @ rows


def _weights(squares: Tensor) -> Tensor:
    """Return the weight of each token of a text from the squared gradient [T] at what reads it."""
    bounded = squares.clamp(max=MOST * squares.median())
    return bounded if bounded.any() else torch.ones_like(squares)


def _alike(sizes: Tensor) -> Tensor:
    """Return the weight of each token of a text from the square |x|^2 [T] of its input."""
    sizes = sizes.clamp_min(torch.finfo(sizes.dtype).tiny)
    return (sizes.median() / sizes).clamp(max=MOST)


class _Seen:
    """Takes what passes a block's linear layers in one text, forth and back."""

    def __init__(self) -> None:
        self.inputs: dict[str, Tensor] = {}
        """By the first layer that read it."""
        self.group: dict[str, str] = {}
        self.squares: dict[str, Tensor] = {}
        """[T, E] of the gradient at each output."""

    def take_input(self, name: str, x: Tensor) -> None:
        """Note an input; layers given the very same tensor are a group.

        It is kept without its graph, which keeps the hooks and so would never be freed.
        """
        last = next(reversed(self.inputs), None)
        if last is not None and self.inputs[last].is_set_to(x):
            self.group[name] = last
        else:
            self.group[name], self.inputs[name] = name, x.detach()

    def take_gradient(self, name: str, gradient: Tensor) -> None:
        """Note the gradient of an output."""
        self.squares[name] = gradient.flatten(0, -2).square()


class _Sums:
    """What texts add up to in one block."""

    def __init__(self) -> None:
        self.group: dict[str, str] = {}
        self.grams: dict[str, Tensor] = {}
        self.tokens: dict[str, list[Tensor]] = {}
        self.squares: dict[str, Tensor] = {}

    def add(self, seen: _Seen) -> None:
        """Add one text; texts come in the reverse of their order."""
        self.group |= seen.group
        for first, x in seen.inputs.items():
            members = [name for name, group in seen.group.items() if group == first]
            squares = torch.stack([seen.squares[name].sum(1) for name in members]).sum(0)
            self.tokens.setdefault(first, []).insert(0, _weights(squares))
            _add(self.grams, first, _gram(x, self.tokens[first][0]))
        for name, squares in seen.squares.items():
            _add(self.squares, name, squares.sum(0))

    def layers(self, block: Block) -> dict[str, LayerStats]:
        """Return the layers that were used."""
        tokens = {first: torch.cat(parts) for first, parts in self.tokens.items()}
        grams = {first: gram / tokens[first].sum() for first, gram in self.grams.items()}
        residuals = {first: _residual(grams[first], len(tokens[first])) for first in grams}
        return {
            name: LayerStats(
                group=(group := self.group[name]),
                shape=(linear.out_features, linear.in_features),
                energy=grams[group].diagonal().clone(),
                conditional_variance=residuals[group],
                output_grad_sq=self.squares[name] / len(tokens[group]),
                tokens=tokens[group],
            )
            for name, linear in block.linears.items()
            if name in self.group
        }


def calibrate(
    decoder: Decoder, entering: Sequence[Tensor], progress: Progress
) -> dict[str, LayerStats]:
    """Run calibration text forth and back through the blocks, one block at a time.

    The gradient is that of the log-likelihood of next tokens drawn from the model's own
    distribution, so that its mean square is the diagonal of the Fisher information: a change d of
    a layer's output costs about d^2 gradient / 2 nats, whatever the text says.

    Args:
        decoder: the unquantised model.
        entering: [1, T, D] of each sequence, before the first block.
        progress: called with each stage.

    Returns:
        Each linear layer by its name.
    """
    stats: list[dict[str, LayerStats]] = []
    spill, places = Spill("calibration", "give less text"), []
    hidden = list(entering)
    total = 2 * len(decoder.blocks)
    with torch.no_grad():
        for i in range(len(decoder.blocks)):
            block = decoder.copied(i)
            places.append([spill.put(rows) for rows in hidden])
            hidden = [block(rows) for rows in hidden]
            progress("measuring inputs and gradients", i + 1, total)
    generator = torch.Generator().manual_seed(0)
    gradients = [_fisher_gradient(decoder, rows, generator) for rows in hidden]
    for i in reversed(range(len(decoder.blocks))):
        block, sums = decoder.copied(i), _Sums()
        for s in reversed(range(len(gradients))):
            seen, rows = _Seen(), spill.take(places[i][s]).requires_grad_()
            linears = block.linears
            with (
                watching_inputs(linears, seen.take_input),
                watching_output_gradients(linears, seen.take_gradient),
            ):
                (gradients[s],) = torch.autograd.grad(block(rows), rows, gradients[s])
            sums.add(seen)
        stats.insert(0, sums.layers(block))
        progress("measuring inputs and gradients", total - i, total)
    return {name: layer for layers in stats for name, layer in layers.items()}


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
