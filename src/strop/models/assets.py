"""Everything of a model but its weights: configuration, generation settings, tokenizer."""

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from strop.core.digest import changed_file
from strop.core.errors import ConfigError, DataError
from strop.core.files import read_json, reading, write_json, written_whole
from strop.core.system.heap import return_free_memory
from strop.models.files.layout import Layout, from_plain
from strop.models.files.opening import conversion, read_config, read_generation, read_tokenizer
from strop.models.identity import tokenizer_identity
from strop.models.loading import located, resolve
from strop.models.special_tokens import settle

CONFIG, GENERATION, RESOLVED = "config.json", "generation_config.json", "resolved.json"
"""Files of written assets; the last has every setting, those too that transformers leaves unsaid."""


_ADDED = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
"""What tokenizer.json says of an added token."""
_SIDES = ("padding_side", "truncation_side")
_PROBES = (
    "  two spaces, a tab\tand\n\nlines\r\n",
    "3.14 Don't I'LL Größe",
    "漢字 привет 🙂👩‍👩‍👧 e\u0301",
)


@dataclass(frozen=True, slots=True)
class ModelAssets:
    """What surrounds a model's weights, settled as `load` settles it."""

    folder: Path
    """Where the model lies, with its weights."""
    config: Any
    """Has the settings as attributes; what config.json says of them is `stated`."""
    generation_config: Any
    """Has the settings as attributes."""
    tokenizer: Any
    saved_in: Path | None = None
    """Folder where `write` wrote what this was read from; None: transformers read it from `folder`."""
    layout: Layout | None = None
    """What the model's weights are called in its files; None: transformers has to be asked."""

    @property
    def text_config(self) -> Any:
        """The settings of the language model: a part of `config` where it reads images as well."""
        if self.saved_in is None:
            return self.config.get_text_config()
        return getattr(self.config, "language_model", self.config)

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer."""
        return list(self.generation_config.eos_token_id)

    @property
    def stated(self) -> dict[str, Any]:
        """What config.json says: the settings that are not the usual ones."""
        if self.saved_in is None:
            config = json.loads(self.config.to_json_string())
            config.pop("transformers_weights", None)  # a file in `folder`
            return dict(config)
        return _read(self.saved_in / CONFIG)

    def save(
        self, folder: Path, dtype: torch.dtype, changes: Mapping[str, Any] | None = None
    ) -> None:
        """Write everything beside weights of the format `dtype` that lie in `folder`.

        `changes` are entries of config.json that are not those of the assets.
        """
        config = {**self.stated, **(changes or {}), "dtype": str(dtype).removeprefix("torch.")}
        text = json.dumps(dict(sorted(config.items())), indent=2) + "\n"
        (folder / CONFIG).write_text(text, encoding="utf-8")
        self.save_tokenizer(folder)

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer with its chat template, and how to generate, into `folder`."""
        if self.saved_in is not None:
            copy_tokenizer(self.saved_in, folder)
            return
        # save_pretrained refuses settings of sampling beside do_sample=False, which many models have
        self.generation_config.to_json_file(folder / GENERATION, keys_to_pop=["compile_config"])
        self.tokenizer.save_pretrained(folder)

    def govern(self, model: Any) -> None:
        """Give a model the generation settings and the pad token that training had."""
        if self.saved_in is None:
            model.generation_config = copy.deepcopy(self.generation_config)
        else:
            model.generation_config = read_generation(self.saved_in)
        model.config.pad_token_id = self.tokenizer.pad_token_id

    def write(self, folder: Path) -> None:
        """Write everything into `folder`, from which `load_assets` reads it at a fraction of the cost.

        Transformers' classes of configurations import its compilers, of tokenizers its models. What
        they made of the model's files is written down instead. A tokenizer without a tokenizer.json
        cannot do without its class; then nothing is written.
        """
        from transformers import PreTrainedTokenizerFast

        if not isinstance(self.tokenizer, PreTrainedTokenizerFast):
            return
        with written_whole(folder) as scratch:
            scratch.mkdir()
            self.save(scratch, self.config.dtype or torch.float32)
            text = self.text_config
            every = self.generation_config.to_json_string(False, keys_to_pop=["compile_config"])
            settings = {
                "config": _settings(self.config),
                "text_config": None if text is self.config else _settings(text),
                "generation_config": json.loads(every),
                "added_tokens": _added_tokens(self.tokenizer),
                "tensors": conversion(self.folder).layout.plain(),
            }
            write_json(scratch / RESOLVED, settings)


def _added_tokens(tokenizer: Any) -> list[dict[str, Any]]:
    """Return what tokenizer.json says of added tokens; with it, its megabytes need not be parsed."""
    added = sorted(tokenizer.added_tokens_decoder.items())
    return [{"id": i} | {fact: getattr(token, fact) for fact in _ADDED} for i, token in added]


def load_assets(name: str | Path, saved: Path | None = None) -> ModelAssets:
    """Return what surrounds a model's weights, with the chat template that training used.

    Args:
        name: what `load` takes.
        saved: folder in which a run's training wrote it; without one, transformers reads it from
            the model.

    Raises:
        StropError: the model cannot be found; the text says what was looked for where.
        DataError: a file in `saved` is missing or damaged.
    """
    if saved is not None and saved.is_dir():
        return _opened(saved, located(name))
    folder = resolve(name)
    from transformers import GenerationConfig

    config = _config(folder)
    if (folder / GENERATION).is_file():
        generation = read_generation(folder)
    else:
        generation = GenerationConfig.from_model_config(config)
    tokenizer = read_tokenizer(folder)
    assets = ModelAssets(folder, config, generation, tokenizer)
    settle(assets, tokenizer)
    return assets


def trained_assets(name: str | Path, model: Any, tokenizer: Any) -> ModelAssets:
    """Return what surrounds the weights of a model that is about to be trained.

    Args:
        name: what `load` takes, of the weights.
        model: as it is trained; its generation settings count, not those of `name`.
        tokenizer: it is trained with, not that of `name`.
    """
    folder = resolve(name)
    config = _config(folder)
    config.pad_token_id = tokenizer.pad_token_id
    for side in _SIDES:  # set after loading, transformers would not save them
        if getattr(tokenizer, side) != getattr(type(tokenizer), side):
            tokenizer.init_kwargs[side] = getattr(tokenizer, side)
    return ModelAssets(folder, config, copy.deepcopy(model.generation_config), tokenizer)


def _config(folder: Path) -> Any:
    """Return the configuration without how weights are stored, which are no part of the assets."""
    config = read_config(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def copy_tokenizer(saved: Path, folder: Path) -> None:
    """Copy the tokenizer that `ModelAssets.write` wrote, and how to generate, without opening it."""
    others = shutil.ignore_patterns(CONFIG, RESOLVED)
    shutil.copytree(saved, folder, ignore=others, dirs_exist_ok=True)


def saved_tokenizer_identity(assets: ModelAssets, folder: Path) -> str:
    """Return the identity of the tokenizer that `ModelAssets.write` wrote into `folder`.

    Raises:
        ConfigError: it is not that of the assets: what it does is not all in the files of a tokenizer.
    """
    saved = _opened(folder, assets.folder).tokenizer
    identity = tokenizer_identity(saved)
    same = identity == tokenizer_identity(assets.tokenizer)
    if not same and _probed(saved) != _probed(assets.tokenizer):
        raise ConfigError(
            f"the tokenizer that was given, a {type(assets.tokenizer).__name__}, is another one once "
            "it is saved and opened again, so that later steps could not use it; save it "
            "(tokenizer.save_pretrained) and give what AutoTokenizer.from_pretrained opens there"
        )
    return identity


def check_same_files(folder: Path, recorded: Mapping[str, str]) -> None:
    """Look whether what a run keeps in `folder` is as it was written.

    Raises:
        DataError: a file was changed or is missing; the text names it.
    """
    if (file := changed_file(folder, recorded)) is not None:
        raise DataError(
            f"{file} is damaged: it is not as training wrote it, and what is made with it "
            f"would not be the trained model; put that file back, or remove the folder {folder}, and "
            "what the model's own folder says is taken instead"
        )


def _probed(tokenizer: Any) -> Any:
    """Return what a tokenizer makes of a few texts that are easily cut differently."""
    marks = "".join(sorted(tokenizer.get_added_vocab()))
    ids = [
        tokenizer(text, add_special_tokens=special)["input_ids"]
        for text in (*_PROBES, marks)
        for special in (True, False)
    ]
    sides = [getattr(tokenizer, name) for name in _SIDES]
    return ids, tokenizer.chat_template, dict(tokenizer.special_tokens_map), sides


def _opened(saved: Path, folder: Path) -> ModelAssets:
    """Return the assets that `ModelAssets.write` wrote into `saved`, of the model in `folder`."""
    from transformers import PreTrainedTokenizerFast

    settings = _read(saved / RESOLVED)
    with reading(saved, _hint(saved)):
        config = SimpleNamespace(**settings["config"])
        if (text := settings.get("text_config")) is not None:
            config.language_model = SimpleNamespace(**text)
        config.dtype = None if config.dtype is None else getattr(torch, config.dtype)
        # given the added tokens, transformers does not parse the whole file to find them
        added = {token.pop("id"): token for token in settings["added_tokens"]}
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            saved, local_files_only=True, added_tokens_decoder=added
        )
        generation = SimpleNamespace(**settings["generation_config"])
        tensors = settings.get("tensors")
        layout = None if tensors is None else from_plain(tensors)
    return_free_memory()
    return ModelAssets(folder, config, generation, tokenizer, saved, layout)


def _settings(config: Any) -> dict[str, Any]:
    """Return every attribute of a configuration, under the names of its family and the usual ones."""
    usual = {name: getattr(config, name) for name in config.attribute_map if hasattr(config, name)}
    return {**usual, **config.to_dict()}


def _read(file: Path) -> dict[str, Any]:
    return read_json(file, hint=_hint(file.parent))


def _hint(saved: Path) -> str:
    return f"remove the folder {saved}, and what the model's own folder says is taken instead"
