"""Unsloth's public calls with their arguments, done by strop; nothing of another package is changed.

    from strop.compat.unsloth import FastLanguageModel, SFTConfig, SFTTrainer

A notebook written for Unsloth runs on transformers, PEFT and TRL as installed once its imports of
unsloth, trl and vllm name this package. What strop does not do raises, with the way that it has.
"""

from typing import TYPE_CHECKING

from strop.core.lazy import public

if TYPE_CHECKING:
    from strop.compat.unsloth.chat_templates import (
        CHAT_TEMPLATES,
        apply_chat_template,
        construct_chat_template,
        get_chat_template,
        standardize_data_formats,
        standardize_sharegpt,
        to_sharegpt,
        train_on_responses_only,
    )
    from strop.compat.unsloth.configs import (
        CPOConfig,
        DPOConfig,
        GRPOConfig,
        KTOConfig,
        ORPOConfig,
        RLOOConfig,
        SFTConfig,
        UnslothTrainingArguments,
    )
    from strop.compat.unsloth.drawing import SamplingParams
    from strop.compat.unsloth.loading import (
        FastLanguageModel,
        FastModel,
        FastTextModel,
        FastVisionModel,
        PatchDPOTrainer,
        PatchFastRL,
        is_bf16_supported,
        is_bfloat16_supported,
    )
    from strop.compat.unsloth.trainer import (
        CPOTrainer,
        DPOTrainer,
        GRPOTrainer,
        KTOTrainer,
        ORPOTrainer,
        RLOOTrainer,
        SFTTrainer,
        UnslothTrainer,
        unsloth_train,
    )

__all__ = [
    "CHAT_TEMPLATES",
    "CPOConfig",
    "CPOTrainer",
    "DPOConfig",
    "DPOTrainer",
    "FastLanguageModel",
    "FastModel",
    "FastTextModel",
    "FastVisionModel",
    "GRPOConfig",
    "GRPOTrainer",
    "KTOConfig",
    "KTOTrainer",
    "ORPOConfig",
    "ORPOTrainer",
    "PatchDPOTrainer",
    "PatchFastRL",
    "RLOOConfig",
    "RLOOTrainer",
    "SFTConfig",
    "SFTTrainer",
    "SamplingParams",
    "UnslothTrainer",
    "UnslothTrainingArguments",
    "apply_chat_template",
    "construct_chat_template",
    "get_chat_template",
    "is_bf16_supported",
    "is_bfloat16_supported",
    "standardize_data_formats",
    "standardize_sharegpt",
    "to_sharegpt",
    "train_on_responses_only",
    "unsloth_train",
]

_TEMPLATES = "strop.compat.unsloth.chat_templates"
_LOADING = "strop.compat.unsloth.loading"
_CONFIGS = "strop.compat.unsloth.configs"
_TRAINER = "strop.compat.unsloth.trainer"

__getattr__ = public(
    __name__,
    {
        "CHAT_TEMPLATES": _TEMPLATES,
        "apply_chat_template": _TEMPLATES,
        "construct_chat_template": _TEMPLATES,
        "get_chat_template": _TEMPLATES,
        "standardize_data_formats": _TEMPLATES,
        "standardize_sharegpt": _TEMPLATES,
        "to_sharegpt": _TEMPLATES,
        "train_on_responses_only": _TEMPLATES,
        "CPOConfig": _CONFIGS,
        "DPOConfig": _CONFIGS,
        "GRPOConfig": _CONFIGS,
        "KTOConfig": _CONFIGS,
        "ORPOConfig": _CONFIGS,
        "RLOOConfig": _CONFIGS,
        "SFTConfig": _CONFIGS,
        "UnslothTrainingArguments": _CONFIGS,
        "SamplingParams": "strop.compat.unsloth.drawing",
        "FastLanguageModel": _LOADING,
        "FastModel": _LOADING,
        "FastTextModel": _LOADING,
        "FastVisionModel": _LOADING,
        "PatchDPOTrainer": _LOADING,
        "PatchFastRL": _LOADING,
        "is_bf16_supported": _LOADING,
        "is_bfloat16_supported": _LOADING,
        "CPOTrainer": _TRAINER,
        "DPOTrainer": _TRAINER,
        "GRPOTrainer": _TRAINER,
        "KTOTrainer": _TRAINER,
        "ORPOTrainer": _TRAINER,
        "RLOOTrainer": _TRAINER,
        "SFTTrainer": _TRAINER,
        "UnslothTrainer": _TRAINER,
        "unsloth_train": _TRAINER,
    },
)
