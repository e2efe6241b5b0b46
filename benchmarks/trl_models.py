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
import trl_images
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from transformers.utils import is_torchvision_available, is_vision_available

from strop.core.files import write_json

ORGANIZATION = "trl-internal-testing"
"""Name of TRL's models and data on a hub."""
SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<pad>", "<bos>", "<eos>"),
    *("<start_of_turn>", "<end_of_turn>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>"),
    *("<|end_header_id|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"),
    *("<|call|>", "<|user|>", "<|assistant|>", "<|system|>", "<think>", "</think>", "<tool_call>"),
    *("</tool_call>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>"),
    *("<|CHATBOT_TOKEN|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"),
    *trl_images.SPECIAL,
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
    "mistral_for_causal_lm_0_2": "qwen2_5",
    "nemotron": "nemotron_3_nano",
    "phi3": "phi3",
    "qwen2": "qwen2_5",
    "qwen3": "qwen3",
    "peft_qwen3": "qwen3",
    "small_qwen3": "qwen3",
    "small_qwen2": "qwen2_5",
}
"""By the beginning of a script's name; other families have none. TRL keeps no template of Mistral's."""
PADS = {"llama": ("<|begin_of_text|>", "<|eot_id|>"), "gpt_oss": (None, "<|return|>")}
CONFIGURED = ("Cohere2", "Glm4Moe", "Olmo3", "Phi3", "Qwen3Moe")
"""Families whose configurations bring a vocabulary or tokens beyond the tokenizer learned here."""
_CANNOT = (
    *(ImportError, AttributeError, TypeError, ValueError, OSError, RuntimeError, AssertionError),
)
TOKENIZERS = ("Qwen/Qwen3-4B",)
"""Tokenizers that tests ask for by themselves."""
KINDS = ("for_causal_lm", "for_sequence_classification")
"""Folders of scripts whose models need a tokenizer alone."""


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
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=begin, eos_token=end, pad_token="<|endoftext|>"
    )
    if family is not None:
        template = checkout / "trl" / "chat_templates" / f"{TEMPLATES[family]}.jinja"
        tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer


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

        for kind, script in _scripts(checkout):
            try:
                _build_one(checkout, into, kind, script, _common)
            except _CANNOT as e:
                refused[script] = f"{type(e).__name__}: {str(e)[:120]}"
    return refused


def _scripts(checkout: Path) -> list[tuple[str, str]]:
    """Return folder and name of each script to run; those with images where their packages are."""
    folder = checkout / "scripts" / "generate_tiny_models"
    scripts = [(kind, file.stem) for kind in KINDS for file in sorted((folder / kind).glob("*.py"))]
    if with_vision():
        scripts += [(trl_images.KIND, script) for script in trl_images.SCRIPTS]
    scripts = [(kind, script) for kind, script in scripts if script != "__init__"]
    return sorted(scripts, key=lambda pair: pair[1].startswith("peft"))  # of models built before


def with_vision() -> bool:
    """Say whether the packages that processors of images need are installed."""
    return bool(is_vision_available() and is_torchvision_available())


def _build_one(checkout: Path, into: Path, kind: str, script: str, common: Any) -> None:
    def save(model: Any, processing: Any, *_: Any, **__: Any) -> None:
        prefix, suffix = (*_[1:], None, None)[:2]
        name = "-".join(part for part in (prefix, type(model).__name__, suffix) if part)
        folder = into / common.ORGANIZATION / name
        model.float().save_pretrained(folder)
        if processing is not None:
            processing.save_pretrained(folder)

    def nothing(*_: Any, **__: Any) -> None:
        return None

    tokenizer = tokenizer_of(checkout, script)
    images = kind == trl_images.KIND
    processor = trl_images.with_images(tokenizer, checkout, script) if images else None

    def config_of(_: str, **settings: Any) -> Any:
        if images:
            return trl_images.config_of(tokenizer, script, **settings)
        kind = next(
            k for k in ("gpt_neox", "llama", "qwen2", "qwen3_moe", "qwen3") if script.startswith(k)
        )
        ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        return transformers.AutoConfig.for_model(kind, **ids, **settings)

    def with_ids(kind: Any) -> Any:
        def config(**settings: Any) -> Any:
            ids = {n: getattr(tokenizer, n) for n in ("pad_token_id", "eos_token_id")}
            return kind(**settings | ids | {"vocab_size": len(tokenizer)})

        return config

    # A lazy module binds names anew when a model is first asked for, and may put another in its place.
    _ = [getattr(transformers, f"{family}ForCausalLM") for family in CONFIGURED]
    lazy = sys.modules["transformers"]
    configs = {f"{f}Config": with_ids(getattr(lazy, f"{f}Config")) for f in CONFIGURED}
    names = ("check_transformers_version", "check_dtype_pattern", "print_config_diff", "smoke_test")
    plain = transformers.GenerationConfig()
    transformers.set_seed(0)
    with (
        mock.patch.multiple(lazy, **configs),
        contextlib.chdir(into),
        mock.patch.multiple(common, push_to_hub=save, **dict.fromkeys(names, nothing)),
        mock.patch.object(transformers.AutoTokenizer, "from_pretrained", return_value=tokenizer),
        mock.patch.object(transformers.AutoProcessor, "from_pretrained", return_value=processor),
        mock.patch.object(transformers.AutoConfig, "from_pretrained", config_of),
        mock.patch.object(transformers.GenerationConfig, "from_pretrained", return_value=plain),
    ):
        runpy.run_module(f"scripts.generate_tiny_models.{kind}.{script}", run_name="__main__")


def build_data(checkout: Path, into: Path) -> None:
    """Write TRL's own test data sets under their hub names, as folders that datasets loads."""
    images = ("zen_image", "zen_multi_image") if with_vision() else ()
    for script in ("zen", "toolcall", "harmony", *images):
        name = script.replace("_", "-")
        folder = into / ORGANIZATION / name
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
            mock.patch.object(sys, "argv", [script, "--push_to_hub", "True"]),
        ):
            runpy.run_path(
                str(checkout / "scripts" / f"generate_{script}_dataset.py"), run_name="__main__"
            )
        (folder / "README.md").write_text(
            f"---\nconfigs:\n{''.join(configs)}---\n", encoding="utf-8"
        )


def build_texts(checkout: Path, into: Path) -> None:
    """Write stand-ins for two data sets of a hub: paragraphs of TRL's pages, in the same columns."""
    pages = sorted((checkout / "docs" / "source").glob("*.md"))[:20]
    texts = [text for page in pages for text in page.read_text(encoding="utf-8").split("\n\n")]
    texts = [text for text in texts if len(text) > 80][:300]
    reviews = [{"text": text, "label": i % 2} for i, text in enumerate(texts)]
    chats = [
        {
            "messages": [
                {"role": "user", "content": "Continue: " + text[:40]},
                {"role": "assistant", "content": text[40:]},
            ]
        }
        for text in texts
    ]
    for name, rows in (("stanfordnlp/imdb", reviews), (f"{ORGANIZATION}/dolly-chatml-sft", chats)):
        for split, part in (("train", rows[:200]), ("test", rows[200:])):
            file = into / name / f"{split}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_list(part).to_parquet(file)


def main() -> None:
    """Run `trl_models.py CHECKOUT FOLDER NOT_BUILT`: build all, write why a script built nothing."""
    checkout, into, not_built = (Path(word).resolve() for word in sys.argv[1:])
    build_data(checkout, into)
    build_texts(checkout, into)
    write_json(not_built, build(checkout, into))


if __name__ == "__main__":
    main()
