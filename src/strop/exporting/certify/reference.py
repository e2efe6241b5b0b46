"""Outputs of the trained model that exports are compared with: distributions, answers, sketches."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from strop.core.files import write_json
from strop.exporting.certify.prompt import Prompt
from strop.exporting.certify.rewards.limits import ReferenceRewards
from strop.exporting.weights.sketches import WeightSketch, read_sketches
from strop.metrics.divergence import Agreement, Answer, Considered

NEW_TOKENS = 32
"""The longest answer to a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceOutputs:
    """Outputs of the trained model, and the texts and chats that they answer."""

    source: str
    """Source of the texts."""
    texts: list[list[int]]
    """Token ids."""
    context_starts: list[int]
    """First position of each text whose context no earlier text had; comparing begins there."""
    chats: list[list[dict[str, str]]]
    """Questions; empty where the model has no chat template."""
    chat_ids: list[list[int]]
    """Token ids of the questions as rendered for training."""
    chat_texts: list[str]
    """The same as texts."""
    answers: list[Answer]
    """To the questions."""
    prompts: list[Prompt]
    """More chats, with tools, calls and reasoning, that are rendered and not answered."""
    tokenizer_stress_texts: list[tuple[str, list[int]]]
    """Texts, and their tokens without begin and end."""
    ends: list[int]
    """The tokens that end an answer."""
    config: dict[str, Any]
    """Entries of the model's config.json, but for how its weights are stored."""
    gguf: dict[str, Any]
    """The same as fields of a GGUF header; empty where its family has none."""
    trained: str
    """SHA-256 of the adapter that training left."""
    begin: int | None
    """The token that begins a text, where the tokenizer puts one."""
    base_kind: str
    """Rounding of the base that was trained on, beside its files: F32 (none), BF16 or NF4."""
    log_probs: Tensor
    """[N, V] after each token of the texts from `context_starts` on, but the last."""
    sketches: dict[str, WeightSketch]
    """Sketch of every weight."""
    scaled: dict[str, WeightSketch]
    """Sketch of every weight that `strop.exporting.gguf.channel_scaling` scales, once scaled."""
    rewards: ReferenceRewards | None = None
    """Rewards of conversations, where the model rewards answers; texts and answers are then none."""
    day: str | None = None
    """The day that the chat template writes as today's; None for the real one."""
    base: str = ""
    """Base of the update where there is a choice; see `strop.exporting.certify.base_choice`."""
    bases: dict[str, Agreement] = dataclasses.field(default_factory=dict)
    """Agreement on each base; empty where there is no choice, and in a saved reference."""

    def save(self, folder: Path) -> None:
        """Write everything into `folder` for the processes that compare."""
        folder.mkdir(parents=True, exist_ok=True)
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name
            not in ("log_probs", "sketches", "scaled", "answers", "prompts", "bases", "rewards")
        }
        plain["rewards"] = None if self.rewards is None else dataclasses.asdict(self.rewards)
        plain["prompts"] = [dataclasses.asdict(prompt) for prompt in self.prompts]
        plain["answers"] = [
            {"ids": a.ids, "ended": a.ended, "sizes": [len(step) for step in a.steps]}
            for a in self.answers
        ]
        write_json(folder / "reference.json", plain)
        steps = [step for answer in self.answers for step in answer.steps]
        tensors = {"log_probs": self.log_probs}
        if steps:
            tensors["considered"] = torch.cat([step.ids for step in steps])
            tensors["considered_log_probs"] = torch.cat([step.log_probs for step in steps])
        save_file(tensors, folder / "log_probs.safetensors")
        for kind in ("sketches", "scaled"):
            parts = [p.tensors(name) for name, p in getattr(self, kind).items()]
            sketches = {key: value.contiguous() for part in parts for key, value in part.items()}
            save_file(sketches, folder / f"{kind}.safetensors")

    @classmethod
    def open(cls, folder: Path) -> "ReferenceOutputs":
        """Read what `save` wrote."""
        plain = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "log_probs.safetensors")
        sizes = [size for answer in plain["answers"] for size in answer["sizes"]]
        parts = ("considered", "considered_log_probs")
        split = [tensors[part].split(sizes) for part in parts if part in tensors]
        steps = iter([Considered(*pair) for pair in zip(*split, strict=True)])
        plain["answers"] = [
            Answer(a["ids"], a["ended"], [next(steps) for _ in a["sizes"]])
            for a in plain["answers"]
        ]
        plain["prompts"] = [Prompt(**prompt) for prompt in plain["prompts"]]
        if plain["rewards"] is not None:
            plain["rewards"] = ReferenceRewards.of(plain["rewards"])
        plain["tokenizer_stress_texts"] = [
            (text, ids) for text, ids in plain["tokenizer_stress_texts"]
        ]
        sketches, scaled = (
            read_sketches(load_file(folder / f"{kind}.safetensors"))
            for kind in ("sketches", "scaled")
        )
        return cls(**plain, log_probs=tensors["log_probs"], sketches=sketches, scaled=scaled)
