"""What each tensor in a model's files is called once it is loaded, by transformers' own mapping."""

import contextlib
import copy
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core.files import reading
from strop.core.quiet import quiet
from strop.models.files.weight_files import StoredTensor

PARTS = ("scale_codes", "factors", "table", "scale_table")
"""Names of what lies beside the codes of a quantised weight."""
_BNB = re.compile(r"\.weight\.(absmax|nested_absmax|quant_map|nested_quant_map|quant_state\..*)$")

_CONSTANTS = (r"\.attn\.masked_bias$", r"rotary_emb\.(cos|sin)_cached$")
"""Names of numbers that follow from the configuration, and that old versions stored all the same."""


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors of the files that become other tensors in memory: stacked, joined, taken apart."""

    files: tuple[str, ...]
    """Their names in the files."""
    memory: tuple[str, ...]
    """The names of what they become."""
    reversible: bool
    """transformers makes the same tensors of them again when it saves the model."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of a model's weights in memory and in its files."""

    shapes: dict[str, tuple[int, ...]]
    """Of every weight in memory, in the model's order; one that is tied stands there once."""
    names: dict[str, str]
    """By the name in the files, the name in memory, where the tensor is the same."""
    groups: tuple[Group, ...] = ()
    missing: tuple[str, ...] = ()
    """Weights in memory that no file has."""
    unplaced: tuple[str, ...] = ()
    """Tensors of the files that the model has no place for."""
    ignored: tuple[str, ...] = ()
    """The same, of parts that transformers knows and leaves out of this model."""
    tied: dict[str, str] = field(default_factory=dict)
    """Weights that are another one, by transformers' word: {the one: the other}."""
    transposed: tuple[str, ...] = ()
    """Weights of stacked experts that are stored as [E, I, O]."""

    @property
    def files(self) -> dict[str, str]:
        """By the name in memory, the name in the files, where the tensor is the same."""
        return {memory: name for name, memory in self.names.items()}

    def plain(self) -> dict[str, Any] | None:
        """Return this as JSON; None where tensors are converted, which takes transformers."""
        if self.groups:
            return None
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        names = {"names": self.names, "tied": self.tied, "transposed": self.transposed}
        return {"shapes": shapes, **names}


def from_plain(plain: Mapping[str, Any]) -> Layout:
    """Return what `Layout.plain` wrote down."""
    shapes = {name: tuple(shape) for name, shape in plain["shapes"].items()}
    transposed = tuple(plain["transposed"])
    return Layout(shapes, dict(plain["names"]), tied=dict(plain["tied"]), transposed=transposed)


class Conversion:
    """transformers' mapping between the names of a model in memory and those of its files."""

    def __init__(self, config: Any, stored: Mapping[str, StoredTensor]) -> None:
        """Build the model without weights, and find a place in it for every tensor.

        Args:
            config: of a causal language model of transformers.
            stored: what its files hold; of a weight in few bits, the parts as they lie there.
        """
        from transformers import AutoModelForCausalLM
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        with torch.device("meta"), quiet(warn=False), faults_of_config(config.name_or_path):
            self.model = AutoModelForCausalLM.from_config(config)
        mapping = get_model_conversion_mapping(self.model)
        self._renamings = [m for m in mapping if isinstance(m, WeightRenaming)]
        self._converters = [m for m in mapping if isinstance(m, WeightConverter)]
        self.state: dict[str, Tensor] = self.model.state_dict()
        weights = [name for name in stored if not _is_part(name, stored)]
        placed = {name: self._renamed(name) for name in _in_order(weights)}
        # as from_pretrained leaves it; saving turns back what loading met
        self.model._weight_conversions = [m for m in mapping if m.was_used()]
        self.layout = self._layout(weights, placed, stored)

    def read(self, group: Group, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return by their names in memory what tensors of the files become.

        Args:
            group: of the layout.
            tensors: by `group.files`.
        """
        first, converter = "", None
        for name in group.files:
            renamed, pattern = self._renamed(name)
            if converter is None:
                first, converter = renamed, self._converter(pattern)
            converter.add_tensor(renamed, name, pattern, tensors[name])
        assert converter is not None
        converted = converter.convert(first, model=self.model, config=self.model.config)
        return {k: v[0] if isinstance(v, list) else v for k, v in converted.items()}

    def written(self, group: Group, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return by their names in the files what tensors in memory become: `read` turned back.

        Args:
            group: of the layout, reversible.
            tensors: by `group.memory`.
        """
        reverted = self._reverted(tensors)
        return {name: reverted[self._saved(name)] for name in group.files}

    def _layout(
        self,
        weights: Sequence[str],
        placed: Mapping[str, tuple[str, str | None]],
        stored: Mapping[str, StoredTensor],
    ) -> Layout:
        names = {
            name: placed[name][0]  # in the files' order
            for name in weights
            if placed[name][0] in self.state and placed[name][1] is None
        }
        collected: dict[str, list[str]] = {}
        for name, (renamed, pattern) in placed.items():
            if renamed in self.state and pattern is not None:
                collected.setdefault(renamed, []).append(name)
        groups = tuple(self._group(first, files, stored) for first, files in collected.items())
        there = {*names.values(), *(name for group in groups for name in group.memory)}
        tied = dict(self.model.all_tied_weights_keys)
        homeless = [name for name in placed if placed[name][0] not in self.state]
        ignored = [name for name in homeless if _matches(self._left_out(), placed[name][0])]
        needless = self.model._keys_to_ignore_on_load_missing or ()
        return Layout(
            shapes={k: tuple(t.shape) for k, t in self.state.items() if k in there},
            names=names,
            groups=groups,
            missing=tuple(
                name
                for name in self.state
                if not there & {name, *_same(tied, name)} and not _matches(needless, name)
            ),
            unplaced=tuple(name for name in homeless if name not in ignored),
            ignored=tuple(ignored),
            tied=tied,
            transposed=tuple(
                name
                for name, weight in self.state.items()
                if weight.ndim == 3
                and getattr(
                    self.model.get_submodule(name.rpartition(".")[0]), "is_transposed", False
                )
            ),
        )

    def _group(self, first: str, files: Sequence[str], stored: Mapping[str, StoredTensor]) -> Group:
        empty = {name: torch.empty(stored[name].shape, device="meta") for name in files}
        try:
            memory = self.read(Group(tuple(files), (), False), empty)
            reverted = self._reverted(memory)
        except (ValueError, RuntimeError, KeyError, IndexError):
            # an operation that cannot be done on these shapes, or not be turned back
            return Group(tuple(files), (first,), False)
        same = len(reverted) == len(files) and all(
            (saved := reverted.get(self._saved(name))) is not None
            and tuple(saved.shape) == stored[name].shape
            for name in files
        )
        return Group(tuple(files), tuple(memory), same)

    def _reverted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from transformers.core_model_loading import revert_weight_conversion

        return dict(revert_weight_conversion(self.model, dict(tensors)))

    def _saved(self, name: str) -> str:
        """Return the name that saving gives a tensor of the files: with the base model's prefix."""
        prefix = f"{self.model.base_model_prefix}."
        full = prefix + name
        bare = not name.startswith(prefix) and self._renamed(name) == self._renamed(full)
        return full if bare else name

    def _renamed(self, name: str) -> tuple[str, str | None]:
        """Return the name in memory, and by which pattern a converter takes the tensor, if one does."""
        from transformers.core_model_loading import rename_source_key

        prefix = self.model.base_model_prefix
        renamed, pattern = rename_source_key(
            name, self._renamings, self._converters, prefix, self.state
        )
        if renamed not in self.state and name in self.state:
            renamed, pattern = rename_source_key(name, [], [], prefix, self.state)
        return renamed, pattern

    def _converter(self, pattern: str | None) -> Any:
        converter = next(c for c in self._converters if pattern in c.source_patterns)
        return copy.deepcopy(converter)

    def _left_out(self) -> list[str]:
        """Return the patterns of names that this class of model leaves out by transformers' rules."""
        patterns = [*(self.model._keys_to_ignore_on_load_unexpected or ()), *_CONSTANTS]
        buffers = [name for name, _ in self.model.named_buffers()]
        if any(name.endswith("rotary_emb.inv_freq") for name in buffers):
            patterns.append(r"rotary_emb\.inv_freq")
        if any(name.endswith("position_ids") for name in buffers):
            patterns.append(r"(^|\.)position_ids$")
        return patterns


def weight_of(part: str) -> str:
    """Return the weight in few bits that a tensor of the files is a part of, or the tensor itself."""
    if match := _BNB.search(part):
        return f"{part[: match.start()]}.weight"
    layer, _, kind = part.rpartition(".")
    return f"{layer}.weight" if kind in PARTS else part


def _is_part(name: str, stored: Collection[str]) -> bool:
    weight = weight_of(name)
    return weight != name and weight in stored


def _same(tied: Mapping[str, str], name: str) -> Iterator[str]:
    """Yield the names of the weight `name` where it is tied."""
    source = tied.get(name, name)
    yield source
    yield from (one for one, other in tied.items() if other == source)


def _matches(patterns: Iterable[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _in_order(names: Collection[str]) -> list[str]:
    from transformers.core_model_loading import dot_natural_key

    return sorted(names, key=dot_natural_key)


@contextlib.contextmanager
def faults_of_config(folder: str | Path) -> Iterator[None]:
    """Explain why transformers makes no model of the configuration in `folder`.

    Raises:
        DataError: a value in it is of another type, unknown, or does not go with the others.
    """
    with reading(f"the config.json in {folder}", "copy it again, or correct that value"):
        yield
