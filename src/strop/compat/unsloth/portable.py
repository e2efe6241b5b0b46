"""A tokenizer whose tensors go to the device that there is, as notebooks written for a card ask."""

import logging
from functools import cache
from typing import Any

import torch
from transformers import BatchEncoding

log = logging.getLogger("strop")


def _here(device: Any) -> Any:
    """Return a device, or the CPU in place of a card that is not there."""
    is_card = isinstance(device, int) or str(device).startswith("cuda")
    if not is_card or torch.cuda.is_available():
        return device
    log.info("there is no card: tensors stay in memory")
    return "cpu"


class PortableIds(torch.Tensor):
    """Token ids that stay in memory where a card is named and none is there."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def to(self, *args: Any, **named: Any) -> torch.Tensor:
        """Return the ids on a device that is there."""
        if args and isinstance(args[0], str | int | torch.device):
            args = (_here(args[0]), *args[1:])
        if "device" in named:
            named["device"] = _here(named["device"])
        return self.as_subclass(torch.Tensor).to(*args, **named)

    def cuda(self, *args: Any, **named: Any) -> torch.Tensor:
        """Return the ids on the card if there is one."""
        return self.to(args[0] if args else "cuda", **named)


class PortableEncoding(BatchEncoding):
    """What a tokenizer returns, movable to a card that is not there."""

    def to(self, device: Any, **named: Any) -> Any:
        """Move the tensors to a device that is there."""
        return super().to(_here(device), **named)


class _Portable:
    """Mixin of a tokenizer's class."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Encode texts."""
        return _encoding(super().__call__(*args, **named))  # type: ignore[misc]

    def apply_chat_template(
        self, conversation: Any, *args: Any, return_dict: bool = False, **named: Any
    ) -> Any:
        """Render chats: text, or ids unless a dictionary is asked for, as before transformers 5."""
        answer = super().apply_chat_template(  # type: ignore[misc]
            conversation, *args, return_dict=return_dict, **named
        )
        if isinstance(answer, torch.Tensor):
            return answer.as_subclass(PortableIds)
        return _encoding(answer)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return how a copy is made in another process: the plain tokenizer, then its class."""
        plain_class = type(self).__mro__[2]
        plain: Any = object.__new__(plain_class)
        plain.__dict__.update(self.__dict__)
        return portable, (plain,)


def _encoding(answer: Any) -> Any:
    if type(answer) is BatchEncoding:
        return PortableEncoding(answer.data, answer.encodings)
    return answer


@cache
def _portable_class(plain: type) -> type:
    return type(plain.__name__, (_Portable, plain), {"__module__": plain.__module__})


def portable(tokenizer: Any) -> Any:
    """Return the tokenizer itself, this one object of a class whose tensors move as said above."""
    if not isinstance(tokenizer, _Portable):
        tokenizer.__class__ = _portable_class(type(tokenizer))  # type: ignore[arg-type]
    return tokenizer
