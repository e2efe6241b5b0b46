"""The linear layers of a model or a block, and what flows into and out of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Take = Callable[[str, Tensor], None]
"""Called with a layer's name and a tensor of it, whenever the layer runs."""


def linear_layers(
    model: nn.Module, prefix: str = "", *, without: Any = None
) -> dict[str, nn.Linear]:
    """Return the linear layers by their names, quantised ones included, those of adapters not.

    Args:
        model: any module.
        prefix: the name of the module itself.
        without: a layer to leave out, such as the head.
    """
    return {
        name: module
        for name, module in model.named_modules(prefix=prefix)
        if isinstance(module, nn.Linear) and ".lora_" not in name and module is not without
    }


@contextmanager
def watching_inputs(layers: Mapping[str, nn.Linear], take: Take) -> Iterator[None]:
    """Give `take` the input [..., D] of each of the layers."""

    def hook(name: str) -> Callable[..., None]:
        return lambda layer, args: take(name, args[0])

    with _hooked(layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()):
        yield


@contextmanager
def watching_output_gradients(layers: Mapping[str, nn.Linear], take: Take) -> Iterator[None]:
    """Give `take` the gradient [..., E] of the output of each of the layers, in backward."""

    def hook(name: str) -> Callable[..., None]:
        return lambda layer, gradients: take(name, gradients[0].detach())

    with _hooked(
        layer.register_full_backward_pre_hook(hook(name)) for name, layer in layers.items()
    ):
        yield


@contextmanager
def _hooked(handles: Iterator[Any]) -> Iterator[None]:
    removable = list(handles)
    try:
        yield
    finally:
        for handle in removable:
            handle.remove()
