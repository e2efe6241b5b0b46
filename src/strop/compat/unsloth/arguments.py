"""Arguments of Unsloth's calls that strop has another way for, each with it."""

import logging
from collections.abc import Mapping
from typing import Any

from strop.core.errors import UnsupportedError

log = logging.getLogger("strop")

WITHOUT_EFFECT = {
    "token": "a hub's token is read from `hf auth login` or HF_TOKEN",
    "device_map": "a model lies on the card if there is one, else in memory",
    "disable_log_stats": "",
    "temporary_location": "",
    "fix_tokenizer": "",
    "random_state": "",
    "gpu_memory_utilization": "",
    "max_lora_rank": "",
    "use_exact_model_name": "",
    "text_only": "",
    "unsloth_tiled_mlp": "",
    "float32_mixed_precision": "",
    "return_logits": "",
    "fullgraph": "",
    "unsloth_force_compile": "",
    "attn_implementation": "",
    "use_gradient_checkpointing": "",
    "unsloth_vllm_standby": "",
    "conservativeness": "",
    "float8_kv_cache": "",
}
"""Of `from_pretrained`: what strop decides otherwise or does not have to be told."""

ELSEWHERE = {
    "load_in_8bit": "strop holds weights in 4 or 16 bits: load_in_4bit=True, or False for 16",
    "load_in_fp8": "strop holds weights in 4 or 16 bits: load_in_4bit=True, or False for 16",
    "qat_scheme": "train on 4-bit weights (load_in_4bit=True), whose error training makes good",
    "rope_scaling": "set it in the model's config.json; rows longer than its positions are not stretched",
    "resize_model_vocab": "add tokens to the tokenizer's folder and train a base that has them",
    "revision": "download the revision and give its folder: hf download NAME --revision REVISION",
    "trust_remote_code": "code of a model is never run; use a model that transformers has itself",
    "offload_embedding": "activations='offload' and --memory bound what training takes",
    "auto_model": "a causal language model is opened",
    "whisper_language": "strop trains language models; audio is not read",
    "whisper_task": "strop trains language models; audio is not read",
    "quantization_config": "load_in_4bit=True quantises; a folder of bitsandbytes' 4 bits opens as it is",
    "loftq_config": "strop fits 4-bit weights when it quantises them; an adapter that starts at what "
    "they lost is `strop quantize MODEL --adapter-rank R`, then strop train --lora-init "
    "quantization_error",
    "layers_pattern": "name layers with layers_to_transform, or all by target_modules as an expression",
    "target_parameters": "experts that are one tensor are trained by strop train --target-modules",
    "ensure_weight_tying": "leave embed_tokens and lm_head out of modules_to_save",
    "finetune_vision_layers": "strop trains language models; images are not read",
    "finetune_audio_layers": "strop trains language models; audio is not read",
}
"""Arguments that ask for what strop does in another way."""


def check_arguments(call: str, arguments: Mapping[str, Any]) -> None:
    """Look at further arguments of a call, those that are not its parameters.

    Args:
        call: of Unsloth, for messages.
        arguments: by name; None, False and empty ones ask for nothing.

    Raises:
        UnsupportedError: lists those that strop has another way for, and those that are not known.
    """
    asking = {k: v for k, v in arguments.items() if v is not None and v is not False and v != {}}
    wrong = [
        f"{name}={value!r}: {ELSEWHERE.get(name, 'is not an argument that strop knows')}"
        for name, value in asking.items()
        if name not in WITHOUT_EFFECT
    ]
    if wrong:
        raise UnsupportedError("\n  ".join((f"{call} cannot be done as asked:", *wrong)))
    for name in asking:
        if reason := WITHOUT_EFFECT[name]:
            log.info("%s: %s has no effect; %s", call, name, reason)
