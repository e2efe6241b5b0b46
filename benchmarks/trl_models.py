"""The tiny random models and the data of TRL's own tests, built offline from a checkout of TRL.

Each of TRL's `scripts/generate_tiny_models` runs as it is, but for what it asks of a hub: tokenizers are
one byte-level tokenizer learned from the checkout's own pages, with TRL's chat template of the family,
and what it would push is saved in a folder under its hub name.
"""

import contextlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import tokenizers
import transformers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<pad>", "<bos>", "<eos>"),
    *("<start_of_turn>", "<end_of_turn>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>"),
    *("<|end_header_id|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"),
    *("<|call|>", "<|user|>", "<|assistant|>", "<|system|>", "<think>", "</think>", "<tool_call>"),
    *("</tool_call>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>"),
    *("<|CHATBOT_TOKEN|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"),
]
TEMPLATES = {
    "cohere2": "cohere2",
    "cohere": "cohere",
    "deepseek": "deepseekv3",
    "gemma2": "gemma",
    "gemma": "gemma",
    "glm4": "glm4moe",
    "gpt_oss": "gptoss",
    "lfm2": "lfm2",
    "llama": "llama3",
    "nemotron": "nemotron_3_nano",
    "phi3": "phi3",
    "qwen2": "qwen2_5",
    "qwen3": "qwen3",
    "peft_qwen3": "qwen3",
    "small_qwen3": "qwen3",
    "small_qwen2": "qwen2_5",
}
"""By the beginning of a script's name; other families have no template."""
PADS = {"llama": ("<|begin_of_text|>", "<|eot_id|>"), "gpt_oss": (None, "<|return|>")}
OWN_IDS = ("Cohere2", "Glm4Moe", "Olmo3", "Phi3", "Qwen3Moe")
"""Families whose configurations bring a vocabulary or tokens beyond the tokenizer learned here."""
_CANNOT = (
    *(ImportError, AttributeError, TypeError, ValueError, OSError, RuntimeError, AssertionError),
)
TOKENIZERS = ("Qwen/Qwen3-4B",)
"""Tokenizers that tests ask for by themselves."""
KINDS = ("for_causal_lm", "for_sequence_classification")
"""Models with images need a processor of a hub."""


def tokenizer_of(checkout: Path, script: str) -> Any:
    """Return the tokenizer of a script's family."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    pages = sorted((checkout / "docs" / "source").glob("*.md"))[:20]
    inner.train_from_iterator((page.read_text(encoding="utf-8") for page in pages), trainer)
    family = next((f for f in TEMPLATES if script.startswith(f)), None)
    begin, end = next((v for k, v in PADS.items() if script.startswith(k)), (None, "<|im_end|>"))
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=begin, eos_token=end, pad_token="<|endoftext|>"
    )
    if family is not None:
        template = checkout / "trl" / "chat_templates" / f"{TEMPLATES[family]}.jinja"
        made.chat_template = template.read_text(encoding="utf-8")
    return made


@contextlib.contextmanager
def _importing(checkout: Path) -> Iterator[None]:
    sys.path.insert(0, str(checkout))
    try:
        yield
    finally:
        sys.path.remove(str(checkout))


def build(checkout: Path, into: Path) -> dict[str, str]:
    """Build every model that can be built; return why the others cannot, by script."""
    refused: dict[str, str] = {}
    for name in TOKENIZERS:
        tokenizer_of(checkout, "qwen3").save_pretrained(into / name)
    with _importing(checkout):
        from scripts.generate_tiny_models import _common  # of the checkout

        for kind in KINDS:
            for script in sorted(
                (checkout / "scripts" / "generate_tiny_models" / kind).glob("*.py")
            ):
                if script.stem == "__init__":
                    continue
                try:
                    _build_one(checkout, into, kind, script.stem, _common)
                except _CANNOT as e:
                    refused[script.stem] = f"{type(e).__name__}: {str(e)[:120]}"
    return refused


def _build_one(checkout: Path, into: Path, kind: str, script: str, common: Any) -> None:
    def save(model: Any, tokenizer: Any, *_: Any, **__: Any) -> None:
        prefix, suffix = (*_[1:], None, None)[:2]
        name = "-".join(part for part in (prefix, type(model).__name__, suffix) if part)
        folder = into / common.ORGANIZATION / name
        model.float().save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)

    def nothing(*_: Any, **__: Any) -> None:
        return None

    made = tokenizer_of(checkout, script)

    def config_of(_: str, **given: Any) -> Any:
        kind = next(
            k for k in ("gpt_neox", "llama", "qwen2", "qwen3_moe", "qwen3") if script.startswith(k)
        )
        ids = {"vocab_size": len(made), "pad_token_id": made.pad_token_id}
        return transformers.AutoConfig.for_model(kind, **ids, **given)

    def with_ids(kind: Any) -> Any:
        def config(**given: Any) -> Any:
            ids = {n: getattr(made, n) for n in ("pad_token_id", "eos_token_id")}
            return kind(**given | ids | {"vocab_size": len(made)})

        return config

    # A lazy module binds names anew when a model is first asked for, and may put another in its place.
    _ = [getattr(transformers, f"{family}ForCausalLM") for family in OWN_IDS]
    lazy = sys.modules["transformers"]
    configs = {f"{f}Config": with_ids(getattr(lazy, f"{f}Config")) for f in OWN_IDS}
    names = ("check_transformers_version", "check_dtype_pattern", "print_config_diff", "smoke_test")
    plain = transformers.GenerationConfig()
    transformers.set_seed(0)
    with (
        mock.patch.multiple(lazy, **configs),
        contextlib.chdir(into),
        mock.patch.multiple(common, push_to_hub=save, **dict.fromkeys(names, nothing)),
        mock.patch.object(transformers.AutoTokenizer, "from_pretrained", return_value=made),
        mock.patch.object(transformers.AutoConfig, "from_pretrained", config_of),
        mock.patch.object(transformers.GenerationConfig, "from_pretrained", return_value=plain),
    ):
        runpy.run_module(f"scripts.generate_tiny_models.{kind}.{script}", run_name="__main__")


def build_data(checkout: Path, into: Path) -> None:
    """Write TRL's own test data sets under their hub names, as folders that datasets loads."""
    for name in ("zen", "toolcall", "harmony"):
        folder = into / "trl-internal-testing" / name
        configs: list[str] = []

        def push(
            self: Any,
            _: str,
            config_name: str,
            folder: Path = folder,
            configs: list[str] = configs,
            **__: Any,
        ) -> None:
            sets = self if isinstance(self, dict) else {"train": self}
            lines = []
            for split, rows in sets.items():
                file = Path(config_name) / f"{split}.parquet"
                (folder / config_name).mkdir(parents=True, exist_ok=True)
                rows.to_parquet(folder / file)
                lines.append(f"  - split: {split}\n    path: {file}\n")
            configs.append(f"- config_name: {config_name}\n  data_files:\n" + "".join(lines))

        with (
            mock.patch.object(datasets.DatasetDict, "push_to_hub", push),
            mock.patch.object(datasets.Dataset, "push_to_hub", push),
            mock.patch.object(sys, "argv", [name, "--push_to_hub", "True"]),
        ):
            runpy.run_path(
                str(checkout / "scripts" / f"generate_{name}_dataset.py"), run_name="__main__"
            )
        (folder / "README.md").write_text(
            f"---\nconfigs:\n{''.join(configs)}---\n", encoding="utf-8"
        )


if __name__ == "__main__":
    root, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    build_data(root, out)
    for script, why in build(root, out).items():
        print(f"not built: {script}: {why}")
