"""TRL's configurations that also take what notebooks give them which were written for an older TRL."""

import importlib.util
import inspect
import logging
import warnings
from typing import Any

import torch
import trl

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*trl.experimental")
    from trl.experimental import cpo, orpo

log = logging.getLogger("strop")

_RENAMED = {
    "max_seq_length": "max_length",
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps",
}
_WITHOUT_EFFECT = {
    "max_prompt_length": "prompts are never cut; leave long ones out of the data",
    "max_completion_length": "max_length bounds prompt and answer together",
    "vllm_sampling_params": "strop's sampler draws answers; set temperature, top_p, min_p",
    "vllm_gpu_memory_utilization": "strop's sampler draws answers",
    "unsloth_num_chunks": "the head is computed in tiles",
    "unsloth_logit_chunk_multiplier": "the head is computed in tiles",
    "unsloth_grpo_mini_batch": "micro_batch_tokens of strop.accelerate bounds what is computed at once",
    "group_by_length": "padding is not computed",
    "save_safetensors": "weights are always safetensors",
    "overwrite_output_dir": "what lies in output_dir stays",
    "logging_dir": "report_to says where to",
    "is_encoder_decoder": "models are decoders",
    "label_pad_token_id": "labels that do not count are -100",
}
"""Arguments that this TRL does not have, each with what holds in its place."""
_EIGHT_BITS = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")


class OlderArguments:
    """Mixin of a configuration: names of older versions, and what fits the machine that is here."""

    def __init__(self, *args: Any, **named: Any) -> None:
        """Set what `arguments_of_today` makes of the arguments; those of Unsloth alone stay attributes."""
        rate = named.pop("embedding_learning_rate", None)
        names = inspect.signature(self._plain()).parameters
        values = arguments_of_today(type(self).__name__, named, set(names))
        super().__init__(*args, **values)
        self.embedding_learning_rate = rate
        self.length_is_given = "max_length" in values or not hasattr(self, "max_length")

    @classmethod
    def _plain(cls) -> type:
        """Return TRL's class."""
        order = cls.__mro__
        return order[order.index(OlderArguments) + 1]


def arguments_of_today(call: str, named: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """Return the arguments of a configuration as the installed TRL takes them.

    Args:
        call: for what is logged.
        named: as they were given.
        known: names that TRL takes.
    """
    values = {}
    for name, value in named.items():
        if name not in known and name in _WITHOUT_EFFECT:
            log.info("%s: %s has no effect; %s", call, name, _WITHOUT_EFFECT[name])
        else:
            values[name if name in known else _RENAMED.get(name, name)] = value
    if values.get("use_vllm"):
        log.info("%s: answers are drawn by strop's sampler, not by vLLM", call)
        values["use_vllm"] = False
    if "num_generations" in known:
        values |= _whole_groups(call, values)
    if values.get("optim") in _EIGHT_BITS and not _has_eight_bits():
        log.info("%s: AdamW runs in 32 bits; its state is of the adapter alone, and small", call)
        values["optim"] = "adamw_torch"
    if not torch.accelerator.is_available():
        if values.get("fp16") or values.get("bf16"):
            log.info("%s: on a CPU the model's dtype decides; fp16 and bf16 have no effect", call)
        values |= {"use_cpu": True, "bf16": False, "fp16": False}
    return values


def _whole_groups(call: str, values: dict[str, Any]) -> dict[str, int]:
    """Return a batch size that holds all answers to a prompt, where the one given does not."""
    answers, batch = values.get("num_generations", 8), values.get("per_device_train_batch_size", 8)
    if batch * values.get("gradient_accumulation_steps", 1) % answers == 0:
        return {}
    whole = -(-batch // answers) * answers
    log.warning(
        "%s: a batch of %d does not hold the %d answers to a prompt; it is %d",
        *(call, batch, answers, whole),
    )
    return {"per_device_train_batch_size": whole}


def _has_eight_bits() -> bool:
    return torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes") is not None


class SFTConfig(OlderArguments, trl.SFTConfig):
    """TRL's."""


class UnslothTrainingArguments(SFTConfig):
    """TRL's SFTConfig with `embedding_learning_rate`, of an embedding and a head that are trained."""


class DPOConfig(OlderArguments, trl.DPOConfig):
    """TRL's."""


class KTOConfig(OlderArguments, trl.KTOConfig):
    """TRL's."""


class GRPOConfig(OlderArguments, trl.GRPOConfig):
    """TRL's."""


class RLOOConfig(OlderArguments, trl.RLOOConfig):
    """TRL's."""


class ORPOConfig(OlderArguments, orpo.ORPOConfig):
    """TRL's."""


class CPOConfig(OlderArguments, cpo.CPOConfig):
    """TRL's."""
