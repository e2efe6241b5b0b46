"""A model quantised within a budget and written as a folder that opens like any other."""

from pathlib import Path
from typing import Any

from torch import nn

from strop.core.errors import ConfigError
from strop.core.files import write_json, written_whole
from strop.core.progress import Progress, silent
from strop.core.quiet import quiet
from strop.core.system.disk import check_room
from strop.models.dtype import default_device
from strop.models.files.opening import open_folder, read_config, read_tokenizer
from strop.models.loading import resolve
from strop.models.lora import initialisation as lora_init
from strop.models.quantized.arguments import checked_budget
from strop.models.quantized.block_runner import take_apart
from strop.models.quantized.calibration_text import sequences
from strop.models.quantized.on_load import SHARD, check_linear, holding
from strop.ops.dequantize.packed import Packed
from strop.quantization.compress import HeldOut
from strop.quantization.model import quantize_model
from strop.quantization.report import as_json, picture


def quantize(
    model: str | Path,
    out: str | Path,
    *,
    budget: float | None = None,
    max_kl: float | None = None,
    calibrate: Any = None,
    adapter_rank: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Store the linear layers of a model in 4 to 8 bits, more where it matters; keep the rest.

    A quarter of the text is kept aside to measure on. The folder opens by `strop.load(out)` and,
    after `import strop.models`, by transformers' `from_pretrained`.

    Args:
        model: what `strop.load` takes.
        out: the folder to write, new or empty.
        budget: bytes of the linear layers over those of plain NF4; 1.10 where neither is given.
        max_kl: instead of a budget, the mean KL divergence of the next token from the original
            model that is allowed on held-out text, in nats.
        calibrate: text like what the model will be used for: what `strop.data.read` takes; None
            takes a packaged text.
        adapter_rank: writes also, into `lora_init`, a LoRA adapter of this rank that makes
            good for part of the error, from which training may start; 0 writes none.
        progress: called with each stage.

    Returns:
        What quantization.json in the folder holds: bytes, KL, top-1 agreement and perplexity
        beside plain NF4, and for each group of layers what was chosen and why.

    Raises:
        ConfigError: `out` is in use, a setting is impossible, or the model is quantised already.
        DataError: too little text, or weights that are NaN or infinite, all of them named.
        UnsupportedError: the model has weights that would be left out, or the disk is full.
    """
    budget = checked_budget(Path(out), budget, max_kl, adapter_rank)
    folder, out = resolve(model), Path(out)
    loaded, tokenizer = _opened(folder)
    _check_room(out, loaded)
    calibration, held_out = sequences(tokenizer, calibrate, loaded)
    decoder, entering = take_apart(loaded, [*calibration, *held_out])
    count = len(calibration)
    quantized = quantize_model(
        decoder,
        entering[:count],
        HeldOut(entering[count:], held_out),
        budget=budget,
        max_kl=max_kl,
        rank=adapter_rank,
        progress=progress,
    )
    report = as_json(quantized, model=str(model), text=str(calibrate or "packaged"))
    _put_in(loaded, quantized.compressed.packed, quantized.formats)
    with written_whole(out) as scratch, quiet():
        loaded.save_pretrained(scratch, max_shard_size=SHARD)
        tokenizer.save_pretrained(scratch)
        write_json(scratch / "quantization.json", report)
        (scratch / "quantization.svg").write_text(picture(quantized), encoding="utf-8")
        if adapter_rank:
            corrections = quantized.compressed.corrections
            lora_init.write(scratch / lora_init.FOLDER, corrections, adapter_rank, str(out))
    return report


def _check_room(out: Path, model: Any) -> None:
    """Look for room before minutes are spent.

    Raises:
        UnsupportedError: the disk is too full.
    """
    head = model.get_output_embeddings()
    linear = [m.weight for m in model.modules() if type(m) is nn.Linear and m is not head]
    linear_ids = {id(weight) for weight in linear}
    rest = sum(p.nbytes for p in model.parameters() if id(p) not in linear_ids)
    needed = rest + sum(weight.numel() for weight in linear) // 2
    check_room(out, {"the quantised model": needed})


def _opened(folder: Path) -> tuple[Any, Any]:
    config = read_config(folder)
    if (stored := getattr(config, "quantization_config", None)) is not None:
        method = dict(stored).get("quant_method", "an unnamed method")
        raise ConfigError(f"{folder} is quantised already, by {method}; give the unquantised model")
    loaded = open_folder(folder, config, "auto")
    check_linear(loaded)
    tokenizer = read_tokenizer(folder)
    return loaded.to(default_device()).eval().requires_grad_(False), tokenizer


def _put_in(model: Any, packed: dict[str, Packed], formats: dict[str, str]) -> None:
    from strop.models.quantized.hf_quantizer import StropConfig

    for name, weight in packed.items():
        model.set_submodule(name, holding(model.get_submodule(name), weight))
    model.config.quantization_config = StropConfig(formats)
