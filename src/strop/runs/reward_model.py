"""A reward model: a decoder with a head of one row, which scores conversations by their last token."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from strop.core.errors import ConfigError, UnsupportedError
from strop.core.files import reading
from strop.core.quiet import quiet
from strop.core.tokens import IGNORE_INDEX
from strop.data import Example, Row, Supervision, encode_all
from strop.data.rows import Message
from strop.models.files.opening import read_config
from strop.runs.run import Run

if TYPE_CHECKING:
    from strop.forward.compact import CompactForward
    from strop.forward.compaction import CompactBatch

METHOD = "reward"
HEAD = "score"
"""Name of the head in transformers' classes."""
_AT_ONCE = 16
"""Conversations that are scored together."""


def rewards_answers(run: Run) -> bool:
    """Tell whether a run's model rewards answers; others write them."""
    return run.settings.get("method") == METHOD


def classifier_on(model: Any, seed: int) -> Any:
    """Return transformers' classifier on the decoder of a language model, with a new head of one row.

    Both share the decoder, so that an adapter put into one is in the other.

    Raises:
        UnsupportedError: transformers has no classifier of this family.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    config = copy.deepcopy(model.config)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise UnsupportedError(
            f"method reward needs a classifier, and transformers has none of {config.model_type}; "
            "take a model of another family"
        )
    config.num_labels = 1
    kind = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    with torch.device("meta"):
        classifier = kind(config)
    setattr(classifier, classifier.base_model_prefix, model.base_model)
    width = model.get_input_embeddings().weight.shape[1]
    head = nn.Linear(width, 1, bias=False)
    drawn = torch.randn(1, width, generator=torch.Generator().manual_seed(seed))
    head.weight = nn.Parameter(drawn * getattr(config, "initializer_range", 0.02))
    setattr(classifier, HEAD, head.to(model.device))
    classifier.name_or_path = model.name_or_path
    return classifier.train(model.training)


@dataclass(frozen=True, slots=True)
class Classifier:
    """transformers' classifier on the decoder of a language model, with a head of one row."""

    name: str
    """Its class."""
    weights: frozenset[str]
    """Names of its weights in memory."""

    @classmethod
    def of(cls, folder: Path) -> "Classifier":
        """Return that of the model in a folder, whose weights are not read."""
        from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

        config = read_config(folder)
        config.num_labels = 1
        with torch.device("meta"), quiet():
            classifier = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)](config)
        return cls(type(classifier).__name__, frozenset(classifier.state_dict()))

    def config(self, stated: Mapping[str, Any], pad: int) -> dict[str, Any]:
        """Return the entries of config.json that are not the language model's.

        Args:
            stated: what the language model's config.json says.
            pad: id of the padding token, behind which a conversation ends.
        """
        label = "reward"
        entries: dict[str, Any] = {
            "architectures": [self.name],
            "id2label": {"0": label},
            "label2id": {label: 0},
            "pad_token_id": pad,
        }
        if isinstance(text := stated.get("text_config"), dict):
            entries["text_config"] = {**text, "pad_token_id": pad}
        return entries


def rewards_of_batch(
    compact: "CompactForward", head: Any, ids: Tensor, mask: Tensor, pad: int
) -> Tensor | None:
    """Return the reward of each row [B], differentiable; None where the batch has no compact form.

    The last token that is no padding is scored, as transformers does.

    Args:
        compact: of the language model with the same decoder.
        head: gives [M, 1] of hidden rows [M, D].
        ids: [B, T]
        mask: [B, T]
        pad: id of the padding token.
    """
    from strop.forward.scored_rows import score_rows

    B, T = ids.shape
    places = torch.arange(T, device=ids.device)
    last = ((ids != pad) * places).argmax(-1)
    each = torch.arange(B, device=ids.device)
    wider, mask = (nn.functional.pad(tensor, (0, 1)) for tensor in (ids, mask))
    mask = (torch.arange(T + 1, device=ids.device) <= last[:, None] + 1).to(mask.dtype)
    labels = torch.full_like(wider, IGNORE_INDEX)
    labels[each, last + 1] = 0  # any token: the hidden row before it is what counts
    trained = [p for p in head.parameters() if p.requires_grad]

    def score(hidden: Tensor, batch: "CompactBatch") -> Tensor:
        wide: Tensor = head(hidden.to(next(head.parameters()).dtype))
        return wide[:, 0]

    inputs = {"input_ids": wider, "attention_mask": mask}
    values = score_rows(compact, labels, inputs, score, trained=trained, linear_loss=False)
    return None if values is None else values[each, last]


def up_to_answer(example: Example) -> list[int]:
    """Return the tokens of a conversation up to the last that is supervised."""
    end = max(i for i, label in enumerate(example.labels) if label != IGNORE_INDEX)
    return list(example.ids[: end + 1])


@dataclass(frozen=True, slots=True)
class RewardModel:
    """The model of a run that learned to reward, ready to score."""

    classifier: Any
    """With its adapter, in eval mode."""
    tokenizer: Any
    compact: "CompactForward"
    end_token: bool

    @classmethod
    def of(cls, run: Run) -> "RewardModel":
        """Load the model of a run.

        Raises:
            ConfigError: the run learned by another method.
        """
        from peft import PeftModel

        from strop.forward.compact import install

        if run.settings.get("method") != METHOD:
            raise ConfigError(
                f"{run.path} was trained by method {run.settings.get('method')}; a reward is a run of "
                "strop train PAIRS --method reward"
            )
        weights = run.weights()
        model, tokenizer = run.load_base()
        model.requires_grad_(False)
        classifier = classifier_on(model, 0)
        classifier.config.pad_token_id = tokenizer.pad_token_id
        with quiet(), reading(weights, "put the folder back from a copy of the run"):
            tuned = PeftModel.from_pretrained(classifier, weights).eval()
        compact, _ = install(model)
        return cls(tuned, tokenizer, compact, bool(run.settings["end_token"]))

    @property
    def blocks(self) -> int:
        """Blocks of its decoder."""
        return int(self.classifier.config.get_text_config().num_hidden_layers)

    def rewards(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Return the reward of the last answer of each conversation."""
        return self.rewards_of_texts(self.ids(conversations))

    def ids(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Return the tokens of each conversation, up to the end of its last answer."""
        rows = [Row(line=i, messages=list(turns)) for i, turns in enumerate(conversations, 1)]
        supervision = Supervision("last", self.end_token)
        return [up_to_answer(e) for e in encode_all(rows, self.tokenizer, supervision=supervision)]

    def rewards_of_texts(self, texts: Sequence[list[int]]) -> list[float]:
        """Return the reward of each of any number of texts as tokens."""
        return [reward for batch in _batches(texts) for reward in self.rewards_of_ids(batch)]

    @torch.no_grad()
    def terms_of_ids(self, text: Sequence[int]) -> Tensor:
        """Return the terms [D] that the head adds up to the reward of a text as tokens."""
        classifier = self.classifier.get_base_model()
        ids = torch.tensor([list(text)], device=classifier.device)
        hidden: Tensor = classifier.base_model(input_ids=ids).last_hidden_state[0, -1]
        weight: Tensor = getattr(classifier, HEAD).weight[0]
        return hidden.to(weight.dtype) * weight

    @torch.no_grad()
    def rewards_of_ids(self, texts: Sequence[list[int]]) -> list[float]:
        """Return the reward of each text as tokens, all computed at once."""
        pad = self.tokenizer.pad_token_id
        ids = torch.full((len(texts), max(map(len, texts))), pad, device=self.classifier.device)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text)] = torch.tensor(text)
        mask = (torch.arange(ids.shape[1], device=ids.device) < _lengths(texts, ids)).long()
        head = getattr(self.classifier.get_base_model(), HEAD)
        values = rewards_of_batch(self.compact, head, ids, mask, pad)
        if values is None:
            values = self.classifier(input_ids=ids, attention_mask=mask).logits[:, 0]
        return [float(value) for value in values]


def _lengths(texts: Sequence[list[int]], like: Tensor) -> Tensor:
    return torch.tensor([len(text) for text in texts], device=like.device)[:, None]


def _batches(texts: Sequence[list[int]]) -> Iterator[Sequence[list[int]]]:
    for start in range(0, len(texts), _AT_ONCE):
        yield texts[start : start + _AT_ONCE]
