"""Model and tokenizer that a run trains: loaded by name, or given as objects."""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from strop.core.digest import folder_digests
from strop.core.errors import ConfigError, DataError, StropError
from strop.core.files import write_sealed
from strop.core.progress import Progress
from strop.models import load, resolve
from strop.models.assets import saved_tokenizer_identity, trained_assets
from strop.models.given_weights import differences, save, spoken
from strop.models.identity import SHOWN, base_identity, tokenizer_identity
from strop.models.loading import located
from strop.models.lora import target_modules
from strop.models.lora.embeddings import add_tokens, read_tokens
from strop.models.precision import bits_of
from strop.models.quantized.on_load import codes_identity
from strop.models.special_tokens import settle
from strop.planning.problems.adapters import ALL_LINEAR
from strop.planning.settings import Settings
from strop.runs.run import Run
from strop.training.dataset import TrainingData


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Model and tokenizer that are trained."""

    model: Any
    tokenizer: Any
    difference: str = ""
    """From the model of its name, so that the run has to save it; empty if there is none."""


def fresh(settings: Settings, model: Any, tokenizer: Any, progress: Progress) -> LoadedModel:
    """Return the model and tokenizer of a new run, with the tokens that are to be added.

    Raises:
        ConfigError: see `_fresh`; or the model cannot take tokens.
        StropError: the model or the tokens cannot be read.
    """
    tokens = [] if settings.add_tokens is None else read_tokens(Path(settings.add_tokens))
    loaded = _fresh(settings, model, tokenizer, progress)
    if not tokens or not (count := add_tokens(loaded.model, loaded.tokenizer, tokens)):
        return loaded
    added = f"{count:,} tokens were added to it"
    difference = f"{loaded.difference}; {added}" if loaded.difference else added
    return LoadedModel(loaded.model, loaded.tokenizer, difference)


def _fresh(settings: Settings, model: Any, tokenizer: Any, progress: Progress) -> LoadedModel:
    """Return the model and tokenizer of a new run.

    A given tokenizer is copied, so that later changes do not reach the run; it gets a pad token
    and a chat template where it has none. `progress` is called while weights are quantised.

    Raises:
        ConfigError: a model object comes without its tokenizer, or with an adapter; or the model
            lacks a layer that target_modules names.
        StropError: the model cannot be loaded.
    """
    if model is None or isinstance(model, str | Path):
        if settings.modules != ALL_LINEAR:
            target_modules.check_folder(resolve(settings.model), settings.modules)
        dtype = None if settings.dtype == "auto" else getattr(torch, settings.dtype)
        base, base_tokenizer = load(
            settings.model, bits=settings.bits, dtype=dtype, progress=progress
        )
        if tokenizer is None:
            return LoadedModel(base, base_tokenizer)
        tokenizer = _copied(tokenizer)
        _remove_other_ends(base, base_tokenizer, tokenizer)
        settle(base, tokenizer, keep_pad=True)
        return LoadedModel(base, tokenizer)
    _check_object(model, tokenizer)
    if settings.modules != ALL_LINEAR:
        target_modules.check_model(model, settings.modules)
    tokenizer = _copied(tokenizer)
    settle(model, tokenizer, keep_pad=True)
    if not model.name_or_path:
        return LoadedModel(model, tokenizer, "it was loaded from no folder")
    try:
        changed = differences(model, model.name_or_path)
    except (ConfigError, DataError) as e:
        return LoadedModel(model, tokenizer, str(e))
    if not changed:
        return LoadedModel(model, tokenizer)
    difference = f"{spoken(changed)} are not as in {model.name_or_path}"
    if settings.lora_init == "quantization_error":
        raise ConfigError(
            f"lora_init is quantization_error, which belongs to other weights: {difference}"
        )
    return LoadedModel(model, tokenizer, difference)


def resumed(run: Run, model: Any, tokenizer: Any, progress: Progress) -> LoadedModel:
    """Return the model and tokenizer of a resumed run, those that it began with.

    Raises:
        ConfigError: a model object or tokenizer is another than the run began with.
        StropError: the model of the run is no longer there, or another is there now.
    """
    assets = run.assets()
    if tokenizer is not None:
        given, recorded = tokenizer_identity(_padded(tokenizer, assets)), run.tokenizer_identity
        if recorded is not None and given != recorded:
            raise ConfigError(
                f"the run in {run.path} was started with a tokenizer of SHA-256 "
                f"{recorded[:SHOWN]} and the one given has {given[:SHOWN]}; leave tokenizer out, "
                "and that of the run is taken"
            )
    if model is None or isinstance(model, str | Path):
        return LoadedModel(run.load_base(progress)[0], assets.tokenizer)
    _check_object(model, assets.tokenizer)
    if changed := differences(model, run.model):
        raise ConfigError(
            f"the model that was given differs in {spoken(changed)} from that which the run in "
            f"{run.path} was started with; leave model out, and that of the run is loaded"
        )
    assets.govern(model)
    return LoadedModel(model, assets.tokenizer)


def check_causal(model: Any) -> None:
    """Check that a model object is a causal language model that a trainer takes.

    Raises:
        ConfigError: it is something else, or wrapped by torch.
    """
    for beneath, wrapper in (
        ("_orig_mod", "torch.compile"),
        ("module", "torch's data parallelism"),
    ):
        if getattr(model, beneath, None) is not None:
            raise ConfigError(
                f"the model that was given is wrapped by {wrapper}; give the one in it, model.{beneath}"
            )
    config = getattr(model, "config", None)
    if not hasattr(model, "generation_config") or getattr(config, "is_encoder_decoder", True):
        raise ConfigError(
            f"model is {_named(model)}, not a causal language model of transformers; give one that "
            "AutoModelForCausalLM or strop.load returns, or the name or folder of one"
        )


def check_embeddings(data: TrainingData[Any], model: Any, tokenizer: Any) -> None:
    """Check that the model has an embedding for every token of the data.

    Raises:
        ConfigError: names the tokens that have none.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if max((max(ids) for ids in data.sequences), default=0) < rows:
        return
    absent = sorted({i for ids in data.sequences for i in ids if i >= rows})
    named = [repr(tokenizer.convert_ids_to_tokens(i)) for i in absent]
    raise ConfigError(
        f"the model has embeddings for {rows:,} tokens and the data has tokens beyond them: "
        f"{spoken(named)}; load the model (strop.load), call "
        f"model.resize_token_embeddings({len(tokenizer)}) and give the object with tokenizer="
    )


def _check_object(model: Any, tokenizer: Any) -> None:
    if tokenizer is None:
        raise ConfigError("a model object comes without its tokenizer; give tokenizer= as well")
    if getattr(model, "peft_config", None):
        raise ConfigError(
            "the model already has an adapter; give the model without one, "
            "or merge it first with merge_and_unload()"
        )
    quantised = getattr(model.config, "quantization_config", None)
    if quantised is not None and bits_of(model) != 4:
        method = getattr(quantised, "quant_method", "another package")
        raise ConfigError(
            f"the weights of the model that was given are quantised by {getattr(method, 'value', method)}; "
            "give the name or folder of its unquantised model, or what strop.load(name, bits=4) returns"
        )


def _copied(tokenizer: Any) -> Any:
    if not callable(getattr(tokenizer, "apply_chat_template", None)) or not hasattr(
        tokenizer, "chat_template"
    ):
        raise ConfigError(
            f"tokenizer is {_named(tokenizer)}, not a tokenizer of transformers; give "
            "AutoTokenizer.from_pretrained(name)"
        )
    if (inner := getattr(tokenizer, "tokenizer", None)) is not None:
        raise ConfigError(
            f"tokenizer is a {type(tokenizer).__name__}, which holds a {type(inner).__name__}; give "
            "that, its .tokenizer, with the chat template on it"
        )
    return copy.deepcopy(tokenizer)


def _named(given: Any) -> str:
    return repr(given) if isinstance(given, str | int | Path) else f"a {type(given).__name__}"


def _padded(tokenizer: Any, assets: Any) -> Any:
    """Return a tokenizer with the pad token that `fresh` gives it."""
    tokenizer = _copied(tokenizer)
    assets = copy.deepcopy(assets)
    settle(assets, tokenizer, keep_pad=True)
    return tokenizer


def _remove_other_ends(model: Any, base_tokenizer: Any, tokenizer: Any) -> None:
    """Remove end tokens of the model whose ids are other tokens in the given tokenizer."""
    settings = model.generation_config
    settings.eos_token_id = [
        i
        for i in settings.eos_token_id
        if base_tokenizer.convert_ids_to_tokens(i) == tokenizer.convert_ids_to_tokens(i)
    ]


def save_start(run: Run, loaded: LoadedModel, record: dict[str, Any] | None) -> None:
    """Write the record of a run, digests of its base, and its model assets.

    Args:
        run: its folder.
        loaded: model and tokenizer.
        record: of a new run; None for a resumed one, of which only what is missing is written.

    Raises:
        ConfigError: the model or the tokenizer cannot be saved; nothing is left of the new run.
    """
    if record is not None:
        write_sealed(run.record_file, {**record, "base": {"kept": bool(loaded.difference)}})
    try:
        if record is not None and loaded.difference:
            save(loaded.model, loaded.tokenizer, run.base_folder)
            loaded.model.name_or_path = str(run.base_folder.absolute())
        if not run.record.get("base", {}).get("sha256"):
            _record_base(run)
        if not run.assets_folder.is_dir():
            _save_assets(run, loaded)
    except StropError:
        if record is not None:
            run.record_file.unlink()
            for folder in (run.base_folder, run.assets_folder):
                shutil.rmtree(folder, ignore_errors=True)
        raise


def _record_base(run: Run) -> None:
    folder = located(run.model)
    base = {**run.record.get("base", {}), "sha256": base_identity(folder)}
    if run.record["settings"]["bits"] == 4 and (codes := codes_identity(folder)) is not None:
        base["codes"] = codes
    run.update(base=base)


def _save_assets(run: Run, loaded: LoadedModel) -> None:
    assets = trained_assets(run.model, loaded.model, loaded.tokenizer)
    assets.write(run.assets_folder)
    if run.assets_folder.is_dir():
        identity = saved_tokenizer_identity(assets, run.assets_folder)
        run.update(tokenizer={"sha256": identity}, model_assets=folder_digests(run.assets_folder))
