"""Processors and configurations of the tiny models with images that TRL's own tests train.

Images are shrunk to 56 pixels where TRL's scripts leave the size of the hub's model.
"""

from pathlib import Path
from typing import Any

import transformers

KIND = "for_conditional_generation"
SCRIPTS = {
    f"qwen2_vl_{KIND}": ("qwen2_vl", "qwen2_5_vl"),
    f"qwen2_5_vl_{KIND}": ("qwen2_5_vl", "qwen2_5_vl"),
    f"qwen3_vl_{KIND}": ("qwen3_vl", "qwen3_vl"),
    f"qwen3_5_{KIND}_nothink": ("qwen3_5", "qwen3_5_nothink"),
    f"qwen3_6_{KIND}": ("qwen3_5_moe", "qwen3_6"),
    f"llava_{KIND}": ("llava", "llava_next"),
    f"llava_next_{KIND}": ("llava_next", "llava_next"),
    f"gemma3_{KIND}": ("gemma3", "gemma3"),
}
"""Model type and chat template by script; TRL's tests train no others, but for Gemma 4."""
SIDE = 56
"""Pixels of an image's side."""
GRID = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
"""Ways that LLaVA-NeXT cuts an image."""
IMAGE, FIRST, LAST = "<image>", "<start_of_image>", "<end_of_image>"
SPECIAL = (IMAGE, FIRST, LAST, "<image_soft_token>")


def with_images(tokenizer: Any, checkout: Path, script: str) -> Any:
    """Return a processor of images and text for a script's family."""
    family, name = SCRIPTS[script]
    template = checkout / "trl" / "chat_templates" / f"{name}.jinja"
    both = {"tokenizer": tokenizer, "chat_template": template.read_text(encoding="utf-8")}
    if family.startswith("qwen"):
        name = "Qwen3VL" if family.startswith("qwen3") else "Qwen2VL"
        processor = "Qwen2_5_VLProcessor" if family == "qwen2_5_vl" else f"{name}Processor"
        return getattr(transformers, processor)(
            image_processor=transformers.Qwen2VLImageProcessor(
                patch_size=16 if family.startswith("qwen3") else 14
            ),
            video_processor=getattr(transformers, f"{name}VideoProcessor")(),
            **both,
        )
    if family == "gemma3":
        images = transformers.Gemma3ImageProcessor()
        names = {"image_token": SPECIAL[-1], "boi_token": FIRST, "eoi_token": LAST}
        tokenizer._set_model_specific_special_tokens(names)
        return transformers.Gemma3Processor(image_processor=images, **both)
    size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    clip = {"patch_size": 14, "vision_feature_select_strategy": "default"}
    clip["num_additional_image_tokens"] = 1
    if family == "llava":
        images = transformers.CLIPImageProcessor(**size)
        return transformers.LlavaProcessor(image_processor=images, **clip, **both)
    images = transformers.LlavaNextImageProcessor(**size, image_grid_pinpoints=GRID)
    return transformers.LlavaNextProcessor(image_processor=images, **clip, **both)


def config_of(tokenizer: Any, script: str, **settings: Any) -> Any:
    """Return a configuration whose vocabulary and tokens of images are the tokenizer's."""
    family = SCRIPTS[script][0]

    def number(text: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(text))

    text = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    vision: dict[str, Any] = {}
    if family.startswith("qwen"):
        names = {"image": "image_pad", "video": "video_pad"}
        names |= {"vision_start": "vision_start", "vision_end": "vision_end"}
        more = {f"{name}_token_id": number(f"<|{token}|>") for name, token in names.items()}
    elif family == "gemma3":
        vision = {"patch_size": 14}
        tokens = {"image": SPECIAL[-1], "boi": FIRST, "eoi": LAST}
        more = {f"{name}_token_index": number(token) for name, token in tokens.items()}
    else:
        text["model_type"] = "mistral" if family == "llava_next" else "llama"
        more = {"image_token_index": number(IMAGE), "image_seq_length": (SIDE // 14) ** 2}
        vision = {"model_type": "clip_vision_model", "image_size": SIDE, "patch_size": 14}
        if family == "llava_next":
            more["image_grid_pinpoints"] = GRID
    settings["text_config"] = settings["text_config"] | text
    settings["vision_config"] = settings["vision_config"] | vision
    return transformers.AutoConfig.for_model(family, **settings, **more)
