"""Unsloth's `fast_generate`: answers drawn by strop's sampler, returned in vLLM's form."""

import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.compat.unsloth.origins import origin_of
from strop.core.errors import UnsupportedError
from strop.models.sampling import Sampling, sample


@dataclass(slots=True)
class SamplingParams:
    """vLLM's settings of an answer, those that strop's sampler has."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = 16
    min_tokens: int = 0
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    seed: int | None = None
    include_stop_str_in_output: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, in vLLM's form."""

    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: str


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """The answers to a prompt, in vLLM's form."""

    prompt: Any
    outputs: list[Completion] = field(default_factory=list)


def bind_drawing(model: Any) -> None:
    """Give this model `fast_generate`, `save_lora` and `load_lora`."""
    model.fast_generate = types.MethodType(fast_generate, model)
    model.save_lora = types.MethodType(save_lora, model)
    model.load_lora = types.MethodType(load_lora, model)


def fast_generate(
    model: Any, prompts: Any, sampling_params: Any = None, lora_request: Any = None, **further: Any
) -> list[RequestOutput]:
    """Return answers to texts, in vLLM's form.

    Args:
        model: with its adapter.
        prompts: a text, or several.
        sampling_params: anything with the attributes of `SamplingParams`.
        lora_request: what `load_lora` returned; None leaves the adapter of the model out, as in vLLM.
        **further: without effect.

    Raises:
        UnsupportedError: images, or an adapter that is not the model's.
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not all(isinstance(text, str) for text in texts):
        raise UnsupportedError("fast_generate takes texts; images and ids are not read")
    origin = origin_of(model)
    assert origin is not None, "bound to models opened here"
    params = sampling_params or SamplingParams()
    settings = _settings(params)
    count = getattr(params, "n", 1)
    seed = getattr(params, "seed", None)
    if seed is None:
        origin.seeds.append(len(origin.seeds))
        seed = origin.seeds[-1]
    rows = [text for text in texts for _ in range(count)]
    was_training = model.training
    model.eval()
    try:
        if lora_request is None and hasattr(model, "disable_adapter"):
            with model.disable_adapter():
                answers = sample(model, origin.tokenizer, rows, settings, seed=seed)
        else:
            answers = sample(model, origin.tokenizer, rows, settings, seed=seed)
    finally:
        model.train(was_training)
    return [
        RequestOutput(
            text,
            [
                Completion(index, answer.text, answer.ids, answer.finish_reason)
                for index, answer in enumerate(answers[i * count : (i + 1) * count])
            ],
        )
        for i, text in enumerate(texts)
    ]


def save_lora(model: Any, save_directory: str | Path, *args: Any, **named: Any) -> None:
    """Write the adapter as PEFT does."""
    model.save_pretrained(save_directory)


def load_lora(model: Any, save_directory: str | Path, load_tensors: bool = True) -> Path:
    """Load the weights of an adapter of this shape into the model, and return its folder.

    Raises:
        UnsupportedError: the model has no adapter to load them into.
    """
    if not hasattr(model, "peft_config"):
        raise UnsupportedError(
            "the model has no adapter; open the adapter's folder by FastLanguageModel.from_pretrained"
        )
    from peft import load_peft_weights, set_peft_model_state_dict

    folder = Path(save_directory)
    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
    return folder


def _settings(params: Any) -> Sampling:
    stop = getattr(params, "stop", None) or ()
    top_k = getattr(params, "top_k", 0) or 0
    return Sampling(
        max_new_tokens=getattr(params, "max_tokens", None) or 4096,
        min_new_tokens=getattr(params, "min_tokens", 0) or 0,
        temperature=params.temperature,
        top_k=max(0, top_k),
        top_p=params.top_p,
        min_p=getattr(params, "min_p", 0.0) or 0.0,
        repetition_penalty=getattr(params, "repetition_penalty", 1.0) or 1.0,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stop_ids=tuple(getattr(params, "stop_token_ids", None) or ()),
    )
