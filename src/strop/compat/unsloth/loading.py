"""Unsloth's `FastLanguageModel`: models opened by strop, adapters put in by PEFT."""

import json
import logging
from pathlib import Path
from typing import Any

import torch

from strop.compat.unsloth.arguments import check_arguments
from strop.compat.unsloth.drawing import bind_drawing
from strop.compat.unsloth.origins import Origin, origin_of, remember
from strop.compat.unsloth.portable import portable
from strop.compat.unsloth.saving import bind_saving
from strop.core.errors import ConfigError, UnsupportedError
from strop.core.quiet import quiet
from strop.models import load
from strop.models.files.weight_files import ADAPTER
from strop.models.lora.config import lora_config
from strop.models.lora.full_weights import train_all

log = logging.getLogger("strop")

ACTIVATIONS = {"unsloth": "auto", True: "checkpoint", "True": "checkpoint", False: "keep"}
"""What `use_gradient_checkpointing` keeps for backward, as `strop.accelerate` takes it."""
_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_TABLES = ("embed_tokens", "lm_head")
_ATTENTION, _MLP = _MODULES[:4], _MODULES[4:]


class FastLanguageModel:
    """Unsloth's way to open a model, to put an adapter in, and to switch between training and answers."""

    @staticmethod
    def from_pretrained(
        model_name: str = "smollm2-135m-instruct",
        max_seq_length: int | None = 2048,
        dtype: torch.dtype | str | None = None,
        load_in_4bit: bool = True,
        load_in_16bit: bool = False,
        full_finetuning: bool = False,
        fast_inference: bool = False,
        **further: Any,
    ) -> tuple[Any, Any]:
        """Return a model and its tokenizer.

        Args:
            model_name: a packaged model, a folder (also of an adapter), a GGUF file or a hub id.
            max_seq_length: tokens of a row; the model's context where that is less.
            dtype: to compute in; None takes the one in which a step is faster.
            load_in_4bit: hold linear weights in 4 bits, quantised on first use.
            load_in_16bit: hold them in 16 bits.
            full_finetuning: train every weight; the model is opened in 32 bits.
            fast_inference: `model.fast_generate` is there either way, by strop's sampler.
            **further: see `arguments.py`.

        Raises:
            UnsupportedError: an argument asks for what strop does otherwise; the text says how.
            StropError: the model is not found.
        """
        check_arguments("FastLanguageModel.from_pretrained", further)
        bits = 32 if full_finetuning else 4 if load_in_4bit and not load_in_16bit else 16
        computed = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        adapter = _adapter_in(model_name)
        name = _base_of(adapter) if adapter else model_name
        model, tokenizer = load(name, bits, dtype=None if full_finetuning else computed)
        length = _length(model, max_seq_length)
        origin = Origin(name, length, tokenizer, full=full_finetuning)
        if full_finetuning:
            train_all(model)
        remember(model, origin)
        if adapter:
            from peft import PeftModel
            from transformers import AutoTokenizer

            model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
            if (adapter / "tokenizer_config.json").is_file():
                tokenizer = AutoTokenizer.from_pretrained(adapter, local_files_only=True)
        origin.tokenizer = portable(tokenizer)
        return _bound(model), origin.tokenizer

    @staticmethod
    def get_peft_model(
        model: Any,
        r: int = 16,
        target_modules: Any = _MODULES,
        lora_alpha: float = 16,
        lora_dropout: float = 0.0,
        bias: str = "none",
        use_gradient_checkpointing: bool | str = "unsloth",
        random_state: int = 3407,
        use_rslora: bool = False,
        modules_to_save: Any = None,
        init_lora_weights: bool | str = True,
        use_dora: bool = False,
        layers_to_transform: Any = None,
        finetune_last_n_layers: int | None = None,
        finetune_language_layers: bool = True,
        finetune_attention_modules: bool = True,
        finetune_mlp_modules: bool = True,
        max_seq_length: int | None = None,
        **further: Any,
    ) -> Any:
        """Return the model with a new LoRA adapter of PEFT in it.

        Raises:
            UnsupportedError: an argument asks for what strop does otherwise; the text says how.
            ConfigError: the model has an adapter already, or was opened to train every weight.
        """
        further = {k: v for k, v in further.items() if k != "finetune_vision_layers"}
        check_arguments("FastLanguageModel.get_peft_model", further)
        origin = _known(model)
        if origin.full:
            raise ConfigError("full_finetuning=True trains every weight; leave get_peft_model out")
        if hasattr(model, "peft_config"):
            raise ConfigError("the model has an adapter already; it is trained further as it is")
        if use_gradient_checkpointing not in ACTIVATIONS:
            raise ConfigError(
                f"use_gradient_checkpointing is {use_gradient_checkpointing!r}; "
                'give "unsloth", True or False'
            )
        from peft import get_peft_model

        if finetune_last_n_layers is not None:
            depth = model.config.get_text_config().num_hidden_layers
            layers_to_transform = list(range(depth))[-finetune_last_n_layers:]
        parts = {_ATTENTION: finetune_attention_modules, _MLP: finetune_mlp_modules}
        off = [name for names, on in parts.items() if not on for name in names]
        if off:
            target_modules = [name for name in _MODULES if name not in off]
        whole = [
            name
            for name in _TABLES
            if not isinstance(target_modules, str) and name in target_modules
        ]
        if whole:  # they are trained whole: TRL's head has no adapter
            target_modules = [name for name in target_modules if name not in whole]
            modules_to_save = [*dict.fromkeys([*(modules_to_save or ()), *whole])]
        config = lora_config(
            r,
            lora_alpha,
            _present(model, target_modules),
            lora_dropout,
            bias=bias,
            use_rslora=use_rslora,
            use_dora=use_dora,
            modules_to_save=modules_to_save,
            init_lora_weights=init_lora_weights,
            layers_to_transform=layers_to_transform,
        )
        torch.manual_seed(random_state)
        with quiet():
            adapted = get_peft_model(model, config)
        origin.activations = ACTIVATIONS[use_gradient_checkpointing]
        return _bound(adapted.train())

    @staticmethod
    def for_inference(model: Any) -> Any:
        """Return the model in eval mode."""
        return model.eval()

    @staticmethod
    def for_training(model: Any, use_gradient_checkpointing: bool | str = True) -> Any:
        """Return the model in training mode."""
        return model.train()


class FastModel(FastLanguageModel):
    """The same for any causal language model of transformers."""


class FastTextModel(FastModel):
    """The same under another name of Unsloth's."""


class FastVisionModel:
    """Unsloth's way to open a model of images; strop trains language models."""

    @staticmethod
    def from_pretrained(*args: Any, **named: Any) -> tuple[Any, Any]:
        """Raise UnsupportedError."""
        raise UnsupportedError(
            "strop trains language models and does not read images; a vision model's language part "
            "is opened by FastLanguageModel.from_pretrained, which leaves the rest out and says so"
        )

    get_peft_model = for_inference = for_training = from_pretrained


def is_bfloat16_supported() -> bool:
    """Return whether bfloat16 can be computed in: on any CPU, on cards from Ampere on."""
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported()


is_bf16_supported = is_bfloat16_supported


def PatchDPOTrainer() -> None:  # noqa: N802 (Unsloth's name)
    """Change nothing: TRL's DPOTrainer needs no patch here."""
    log.info("PatchDPOTrainer changes nothing: strop patches no trainer")


def PatchFastRL(algorithm: Any = None, FastLanguageModel: Any = None) -> None:  # noqa: N802
    """Change nothing: TRL's trainers need no patch here."""
    log.info("PatchFastRL changes nothing: strop patches no trainer")


def _bound(model: Any) -> Any:
    """Return the model with Unsloth's methods, which this one object gets."""
    bind_saving(model)
    bind_drawing(model)
    return model


def _known(model: Any) -> Origin:
    origin = origin_of(model)
    if origin is None:
        raise ConfigError(
            "this model was not opened here; open it with FastLanguageModel.from_pretrained"
        )
    return origin


def _adapter_in(name: str) -> Path | None:
    """Return the folder of an adapter that the name of a model is, if it is one."""
    folder = Path(name).expanduser()
    if (folder / "run.json").is_file():
        from strop.runs.run import Run

        return Run.open(folder).weights()
    alone = (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()
    return folder if alone else None


def _base_of(adapter: Path) -> str:
    base = json.loads((adapter / ADAPTER).read_text(encoding="utf-8")).get(
        "base_model_name_or_path"
    )
    if not base:
        raise ConfigError(f"{adapter / ADAPTER} names no base_model_name_or_path; write it there")
    return str(base)


def _length(model: Any, most: int | None) -> int:
    """Return the tokens of a row: the number given, at most the model's context."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if most is None or (context is not None and most > context):
        if most is not None:
            log.warning(
                "max_seq_length is %d and the model has %d positions, which strop does not stretch: "
                "%d is taken",
                *(most, context, context),
            )
        return int(context or 2048)
    return most


def _present(model: Any, names: Any) -> Any:
    """Return target modules as PEFT takes them: those of Unsloth's usual seven under fused names too."""
    if isinstance(names, str):
        return names
    leaves = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    fused = {"q_proj": "qkv_proj", "gate_proj": "gate_up_proj"}
    targets = [name if name in leaves else fused.get(name, name) for name in names]
    return [name for name in dict.fromkeys(targets) if name in leaves or name not in _MODULES]
