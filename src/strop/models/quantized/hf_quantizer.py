"""The way into transformers for models whose linear weights are stored in few bits.

Importing this module registers the method "strop" with transformers, so that from_pretrained opens
such a folder; `strop.models` sees to that. Its config.json names the format of each quantised layer:

    "quantization_config": {"quant_method": "strop", "version": 1,
                            "modules": {"model.layers.0.self_attn.q_proj": "4b64", ...}}
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from strop.core.errors import DataError, UnsupportedError
from strop.layers.quantized_linear import QuantizedLinear
from strop.models.quantized.bitsandbytes import RENAMINGS, BnbState
from strop.quantization.formats import FORMATS, SCALE_GROUP, scale_table

METHOD = "strop"
VERSION = 1


@register_quantization_config(METHOD)
class StropConfig(QuantizationConfigMixin):
    """Which layers of a model are quantised, and how.

    Args:
        modules: for each quantised layer the name of its format, or what bitsandbytes noted of it.
        version: of the layout on disk.
        quant_method: "strop".
        as_stored: tensors that are not quantised keep the dtype of the file.

    Raises:
        UnsupportedError: the folder was written by a newer strop.
        DataError: a format is not known.
    """

    def __init__(
        self,
        modules: Mapping[str, str | BnbState] | None = None,
        version: int = VERSION,
        quant_method: str = METHOD,
        as_stored: bool = False,
    ) -> None:
        if version != VERSION:
            raise UnsupportedError(
                f"the model is stored in version {version} of strop's format; this strop reads "
                f"version {VERSION}; upgrade strop"
            )
        self.quant_method, self.version = quant_method, version
        self.modules, self.as_stored = dict(modules or {}), as_stored
        named = {form for form in self.modules.values() if isinstance(form, str)}
        if unknown := sorted(named - FORMATS.keys()):
            raise DataError(
                f"the model names formats that are not known: {', '.join(unknown)}; "
                f"known are {', '.join(FORMATS)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return what config.json holds."""
        modules = {
            name: form if isinstance(form, str) else form.name
            for name, form in self.modules.items()
        }
        return {"quant_method": METHOD, "version": self.version, "modules": modules}


@register_quantizer(METHOD)
class StropQuantizer(HfQuantizer):
    """Puts empty quantised layers into a model before its weights are read."""

    requires_calibration = True  # from_pretrained reads such folders and makes none
    quantization_config: StropConfig

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> None:
        layers = dict(model.named_modules())
        modules = self.quantization_config.modules
        if wrong := [name for name in modules if type(layers.get(name)) is not nn.Linear]:
            what = "no such layer" if wrong[0] not in layers else type(layers[wrong[0]]).__name__
            raise UnsupportedError(
                f"{len(wrong)} quantised weights of this checkpoint belong to no linear layer of "
                f"{type(model).__name__} ({wrong[0]}: {what}); load its unquantised version"
            )
        for name, form in modules.items():
            model.set_submodule(name, empty_layer(layers[name], form))
        if any(not isinstance(form, str) for form in modules.values()):
            known = model._keys_to_ignore_on_load_unexpected or ()
            model._keys_to_ignore_on_load_unexpected = {*known, r"\.quant_state\.bitsandbytes"}

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        for name, form in self.quantization_config.modules.items():
            layer = model.get_submodule(name)
            if isinstance(form, str):
                device = layer.weight.device
                layer.table = FORMATS[form].table().to(device)
                layer.scale_table = scale_table().to(device)
        return model

    def get_new_dtype(self, converter: Any, param: Any, dtype: Any) -> Any:
        """Return the dtype a tensor of the file is cast to, None for none."""
        if self.quantization_config.as_stored:
            return None
        return super().get_new_dtype(converter, param, dtype)

    def get_weight_conversions(self) -> list[Any]:
        """Return how bitsandbytes' names become those of `QuantizedLinear`."""
        from transformers.core_model_loading import WeightRenaming

        if all(isinstance(form, str) for form in self.quantization_config.modules.values()):
            return []
        return [WeightRenaming(theirs, stored) for theirs, stored in RENAMINGS.items()]

    def _dequantize(self, model: Any, dtype: torch.dtype | None = None) -> Any:
        for name in self.quantization_config.modules:
            layer = model.get_submodule(name)
            dense = nn.Linear(layer.in_features, layer.out_features, False, "meta", dtype)
            weight = layer.dense(torch.empty(layer.shape, dtype=dtype, device=layer.weight.device))
            dense.weight, dense.bias = nn.Parameter(weight), layer.bias
            model.set_submodule(name, dense)
        return model

    def is_serializable(self) -> bool:
        """Say whether save_pretrained writes a folder that opens again: not bitsandbytes' weights."""
        return all(isinstance(form, str) for form in self.quantization_config.modules.values())

    @property
    def is_trainable(self) -> bool:
        """Say that adapters can be trained on it."""
        return True


def empty_layer(linear: nn.Linear, form: str | BnbState) -> QuantizedLinear:
    """Return a quantised layer on the meta device, to be filled from a file.

    Raises:
        DataError: the weight in the file has another shape than the layer.
    """
    shape, bias = (linear.out_features, linear.in_features), linear.bias is not None
    with torch.device("meta"):
        if isinstance(form, str):
            stored = FORMATS[form]
            return QuantizedLinear(
                shape, stored.bits, stored.group, bias=bias, scale_group=SCALE_GROUP
            )
        if form.shape != shape:
            raise DataError(
                f"a weight of the checkpoint is {list(form.shape)}, its config.json asks for "
                f"{list(shape)}; the files do not belong together"
            )
        layer = QuantizedLinear(
            shape, 4, form.group, bias=bias, nested=form.nested, scale_group=form.scale_group,
            keeps_tables=True,
        )  # fmt: skip
        layer.offset = form.offset
        layer.weight = nn.Parameter(layer.weight.detach()[:, None], requires_grad=False)
        return layer
