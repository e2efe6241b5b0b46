"""Unsloth's ways to save a model: adapter, merged, GGUF; written by strop's exporters."""

import logging
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strop.compat.unsloth.origins import origin_of
from strop.core.errors import ConfigError, UnsupportedError
from strop.core.files import scratch_folder, written_whole
from strop.core.progress import silent
from strop.core.system.disk import check_room
from strop.exporting.gguf.channel_scaling import ChannelScaling
from strop.exporting.gguf.quant_spec import forms
from strop.exporting.ollama import modelfile
from strop.exporting.ollama.modelfile import Modelfile
from strop.exporting.targets import Job, Tuned, jobs
from strop.exporting.weights.base_weights import bases
from strop.exporting.weights.sensitivity import Sensitivity
from strop.exporting.weights.tuned import TunedWeights
from strop.forward.base_model import base_model
from strop.models.assets import trained_assets
from strop.models.precision import bits_of, dtype_name

log = logging.getLogger("strop")

METHODS = {
    "merged_16bit": "merged",
    "16bit": "merged",
    "merged_4bit": "bnb",
    "merged_4bit_forced": "bnb",
    "forced_merged_4bit": "bnb",
    "4bit": "bnb",
    "lora": "adapter",
}
"""What `save_method` writes, as `strop export --to` calls it."""
QUANTS = {
    "not_quantized": "f16",
    "fast_quantized": "q8_0",
    "quantized": "q4_k_m",
    "q4_k_s": "q4_k",
    "q5_k_s": "q5_k",
    "q3_k_s": "q3_k",
}
"""Names of `quantization_method` beside those of `strop export --quant`."""
_PUSHING = (
    "strop pushes only what was saved and looked at: {call}, then "
    "huggingface_hub.upload_folder(folder_path=..., repo_id=...); a run of strop train is certified "
    "and pushed by strop export and strop push"
)


def bind_saving(model: Any) -> None:
    """Give this model Unsloth's methods that save it."""
    for name, function in _METHODS.items():
        setattr(model, name, types.MethodType(function, model))


def save_pretrained_merged(
    model: Any,
    save_directory: str | Path,
    tokenizer: Any = None,
    save_method: str = "merged_16bit",
    **further: Any,
) -> str:
    """Write the model as a folder for transformers and vLLM, or its adapter alone.

    Args:
        model: with its adapter, or all of whose weights were trained.
        save_directory: the folder; what was in it is replaced.
        tokenizer: None takes the model's.
        save_method: of `METHODS`.
        **further: taken and without effect: shards are small enough for every hub.

    Returns:
        The folder.

    Raises:
        ConfigError: a method that is not known.
        UnsupportedError: `push_to_hub`.
    """
    if further.get("push_to_hub"):
        _refuse_push(model, "model.save_pretrained_merged(FOLDER, tokenizer)")
    target = METHODS.get(save_method.lower().replace(" ", "_"))
    if target is None:
        raise ConfigError(
            f"save_method is {save_method!r}; choose from {', '.join(METHODS)}. Formats of fewer bits "
            "for llama.cpp: model.save_pretrained_gguf"
        )
    folder = Path(save_directory)
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder)
        (tokenizer or _tokenizer(model)).save_pretrained(folder)
        return str(folder)
    with _tuned(model, tokenizer) as tuned:
        [job] = jobs([target], [], tuned, None)
        _write(job, folder)
    return str(folder)


def save_pretrained_gguf(
    model: Any,
    save_directory: str | Path,
    tokenizer: Any = None,
    quantization_method: str | Sequence[str] = "fast_quantized",
    **further: Any,
) -> dict[str, Any]:
    """Write the model as GGUF files for llama.cpp and Ollama, with a Modelfile.

    Args:
        model: with its adapter.
        save_directory: the folder; files of other formats in it stay.
        tokenizer: None takes the model's.
        quantization_method: names of formats, one or several.
        **further: `first_conversion` and what is alike are without effect: files are written from
            the merged weights in one step. `imatrix_file` True or a path: strop weighs by what it
            measures itself.

    Returns:
        `gguf_files`, `modelfile_location` and `save_directory`.

    Raises:
        ConfigError: a format that is not known; the text lists those that are.
        UnsupportedError: `push_to_hub`, or every weight was trained.
    """
    if further.get("push_to_hub"):
        _refuse_push(model, "model.save_pretrained_gguf(FOLDER, tokenizer)")
    if not hasattr(model, "peft_config"):
        raise UnsupportedError(
            "a model without an adapter is written by model.save_pretrained_merged(FOLDER, tokenizer), "
            "and to GGUF by llama.cpp's convert_hf_to_gguf.py FOLDER"
        )
    names = [quantization_method] if isinstance(quantization_method, str) else quantization_method
    requested = forms([QUANTS.get(name.lower(), name.lower()) for name in names])
    folder, files = Path(save_directory), []
    folder.mkdir(parents=True, exist_ok=True)
    with _tuned(model, tokenizer) as tuned:
        pending = list(jobs(["gguf"], requested, tuned, None))
        check_room(folder, {job.name: job.nbytes for job in pending})
        for job in pending:
            file = folder / f"{folder.name}.{job.format.upper()}.gguf"
            with scratch_folder("gguf", folder) as scratch:
                job.write(scratch / "gguf", lambda _: None)
                (scratch / "gguf" / job.opened).replace(file)
            files.append(str(file))
        location = _write_modelfile(folder, tuned, Path(files[0]).name)
    return {
        "gguf_files": files,
        "modelfile_location": location,
        "save_directory": str(folder),
    }


def _write_modelfile(folder: Path, tuned: Tuned, file: str) -> str | None:
    try:
        text = Modelfile.of(tuned.assets, file).text()
    except UnsupportedError as e:
        log.warning("no Modelfile is written: %s", e)
        return None
    with written_whole(folder / modelfile.FILE) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return str(folder / modelfile.FILE)


def _write(job: Job, folder: Path) -> None:
    check_room(folder, {job.name: job.nbytes})
    with written_whole(folder) as scratch:
        job.write(scratch, lambda _: None)


@contextmanager
def _tuned(model: Any, tokenizer: Any) -> Iterator[Tuned]:
    """Yield the model as exporters take it, its adapter in a folder of its own meanwhile."""
    origin = origin_of(model)
    assert origin is not None, "bound to models opened here"
    base = base_model(model)
    settings = {"model": origin.name, "bits": bits_of(base), "dtype": dtype_name(base)}
    assets = trained_assets(origin.name, base, tokenizer or origin.tokenizer)
    with scratch_folder("adapter") as scratch:
        model.save_pretrained(scratch)
        weights = TunedWeights(next(iter(bases(settings, assets).values())), scratch)
        sensitivity = Sensitivity(origin.name, weights, silent)
        yield Tuned(settings, weights, assets, sensitivity, ChannelScaling({}, assets.text_config))


def _tokenizer(model: Any) -> Any:
    origin = origin_of(model)
    return None if origin is None else origin.tokenizer


def _refuse_push(model: Any, *arguments: Any, **named: Any) -> None:
    """Refuse to push what nobody has looked at.

    Raises:
        UnsupportedError: always; the text has the way.
    """
    call = next((a for a in arguments if str(a).startswith("model.")), "save the model")
    raise UnsupportedError(_PUSHING.format(call=call))


def push_to_hub_merged(model: Any, *arguments: Any, **named: Any) -> None:
    """Raise UnsupportedError with the way to push a merged model."""
    _refuse_push(model, "model.save_pretrained_merged(FOLDER, tokenizer)")


def push_to_hub_gguf(model: Any, *arguments: Any, **named: Any) -> None:
    """Raise UnsupportedError with the way to push a GGUF file."""
    _refuse_push(model, "model.save_pretrained_gguf(FOLDER, tokenizer)")


def save_pretrained_torchao(model: Any, *arguments: Any, **named: Any) -> None:
    """Raise UnsupportedError with the formats of few bits that strop writes."""
    raise UnsupportedError(
        "torchao's formats are not written; few bits go to GGUF (model.save_pretrained_gguf) or to "
        'bitsandbytes\' 4 bits (model.save_pretrained_merged(FOLDER, save_method="merged_4bit"))'
    )


_METHODS: dict[str, Callable[..., Any]] = {
    "save_pretrained_merged": save_pretrained_merged,
    "save_pretrained_gguf": save_pretrained_gguf,
    "push_to_hub_merged": push_to_hub_merged,
    "push_to_hub_gguf": push_to_hub_gguf,
    "save_pretrained_torchao": save_pretrained_torchao,
    "push_to_hub_torchao": save_pretrained_torchao,
}
