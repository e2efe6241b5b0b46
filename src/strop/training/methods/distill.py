"""Distillation: a model learns a teacher's probabilities of the next token, or its answers.

The loss of a token is the generalised Jensen-Shannon divergence of both distributions, as of
`strop.ops.linear_log_prob.divergence`; a step has the mean over labelled tokens:

    D(teacher, student) = beta KL(teacher || m) + (1 - beta) KL(student || m)
    m = beta teacher + (1 - beta) student;  beta 0: KL(teacher || student), 1: KL(student || teacher)

(GKD, Agarwal et al. 2024, arXiv:2306.13649, Eq. 1; on TRL's GKDTrainer). Off-policy on the answers of
the data; with lmbda above 0 that share of steps is on answers which the student draws. A teacher with
another vocabulary gives answers in place of probabilities (Kim & Rush 2016, arXiv:1606.07947).
"""

import dataclasses
import hashlib
import json
import warnings
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch import Tensor, nn
from transformers import TrainerCallback

from strop.core.errors import ConfigError
from strop.core.system.terminal import bars
from strop.core.tokens import IGNORE_INDEX
from strop.forward.compaction import CompactBatch
from strop.forward.head import Head
from strop.forward.scored_rows import label_order, score_rows
from strop.ops.linear_log_prob.divergence import Logits, linear_divergence, top_k_divergence
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training import dataset
from strop.training.acceleration import compact_forward
from strop.training.dataset import TokenizedDataset
from strop.training.distillation.answers import answered_by
from strop.training.distillation.collator import ROW, NumberedRows
from strop.training.distillation.stored import StoredTopK, top_k_of
from strop.training.distillation.teacher import Teacher
from strop.training.methods import sft
from strop.training.methods.adapted import adapted, padding

if TYPE_CHECKING:
    import datasets

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*trl.experimental")
    from trl.experimental.gkd import GKDConfig, GKDTrainer

CONFIG = GKDConfig


def fields(settings: Settings) -> dict[str, Any]:
    """Return what GKDConfig is given besides the settings: rows come as tokens."""
    return {
        **sft.fields(settings),
        "beta": settings.beta,
        "lmbda": settings.lmbda,
        "temperature": settings.temperature,
        "max_new_tokens": settings.max_completion_length,
        "disable_dropout": settings.dropout == 0,
    }


@dataclasses.dataclass(frozen=True, slots=True)
class TaughtRows(TokenizedDataset):
    """Rows of a run as tokens, with the teacher whose probabilities of them are learned."""

    teacher: Teacher
    stored: StoredTopK | None
    """Its likeliest tokens; None computes all its probabilities at each step."""

    def sets(self) -> tuple["datasets.Dataset", "datasets.Dataset | None"]:
        """Return training and held-out rows as TRL takes them, numbered through both."""
        train, held_out = TokenizedDataset.sets(self)
        numbers = [*range(len(self.train) + len(self.held_out))]
        train = train.add_column(ROW, numbers[: len(self.train)])
        if held_out is not None:
            held_out = held_out.add_column(ROW, numbers[len(self.train) :])
        return train, held_out


def encode(
    rows: SplitRows, tokenizer: Any, settings: Settings, limit: int | None
) -> TokenizedDataset:
    """Return the rows as tokens, and what a teacher knows of them.

    Args:
        rows: read and split.
        tokenizer: the student's.
        settings: name the teacher.
        limit: most tokens that the model takes; None has no limit.

    Raises:
        ConfigError: a setting needs the teacher's probabilities, which have another vocabulary.
        DataError: rows are broken, or no one can answer them.
    """
    teacher = Teacher.open(str(settings.teacher))
    with bars(quiet=not Console(stderr=True).is_terminal) as shown:
        if not teacher.has_vocabulary_of(tokenizer):
            if settings.lmbda or settings.top_k:
                raise ConfigError(
                    f"teacher is {settings.teacher}, which has another vocabulary than the model, so "
                    "that only its answers can be learned; leave lmbda and top_k out"
                )
            split, note = answered_by(teacher, rows, settings, shown)
            data = dataset.encode(split, tokenizer, settings, limit)
            data.facts["notes"].append(f"method distill: {note}")
            return data
        data = dataset.encode(rows, tokenizer, settings, limit)
        if data.weighted:
            raise ConfigError(
                "the data weighs messages (their `weight`), which method distill does not take; "
                "leave the weights out of the data"
            )
        stored = None
        if settings.top_k is not None:
            every = [*data.train, *data.held_out]
            stored = top_k_of(teacher, every, settings.top_k, data.facts["sha256"], shown)
    data.facts["notes"].append(_note(settings))
    taught = {"rows": data.facts["sha256"], "teacher": teacher.identity()}
    digest = hashlib.sha256(json.dumps(taught, sort_keys=True).encode()).hexdigest()
    data.facts["sha256"] = digest  # a resumed run has the same teacher
    return TaughtRows(data.train, data.held_out, data.facts, data.samples, teacher, stored)


def _note(settings: Settings) -> str:
    known = "all its probabilities are computed at each step; --top-k 64 computes some once"
    if settings.top_k is not None:
        known = f"its {settings.top_k} likeliest tokens of each place are stored, the others as one"
    drawn = f", and in {100 * settings.lmbda:g} % of steps drawn ones" if settings.lmbda else ""
    return (
        f"method distill: the next token's probabilities become those of {settings.teacher}, on the "
        f"answers of the data{drawn}; {known}"
    )


def build(
    settings: Settings,
    args: GKDConfig,
    model: Any,
    tokenizer: Any,
    data: TokenizedDataset,
    callbacks: list[TrainerCallback],
) -> "Trainer | sft.Trainer":
    """Return a trainer for `model`, which gets a new adapter; arguments are those of `adapted`."""
    if not isinstance(data, TaughtRows):
        return sft.build(settings, args, model, tokenizer, data, callbacks)
    collator = NumberedRows(padding(tokenizer))
    collator.prompts = settings.lmbda > 0
    trainer = adapted(
        Trainer,
        settings,
        args,
        model,
        tokenizer,
        data,
        callbacks,
        data_collator=collator,
        teacher_model=data.teacher.model,
    )
    trainer.teacher, trainer.stored = data.teacher, data.stored
    return trainer


class _Taught(GKDTrainer):
    """TRL's GKDTrainer whose loss is computed from hidden rows, or from stored tokens."""

    teacher: Teacher
    stored: StoredTopK | None
    _tokens = 0

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean divergence of labelled tokens; TRL's code runs without acceleration."""
        rows = inputs.pop(ROW)
        if self.model.training:
            self._tokens += int(inputs["attention_mask"].sum())
        labels = inputs["labels"]
        values = self._divergences(inputs, rows)
        if values is None and self.stored is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if values is None:
            values = self._from_logits(model, inputs, rows)
        count = (labels[:, 1:] != IGNORE_INDEX).sum().clamp(min=1)
        loss = values.sum() / (count if num_items_in_batch is None else num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    def _divergences(self, inputs: dict[str, Any], rows: Tensor) -> Tensor | None:
        """Return the divergence of each token [B, T - 1]; None where no compact way is found."""
        compact = compact_forward(self)
        if compact is None:
            return None
        head = Head.of(compact.model)
        if head.weight is None or head.weight.requires_grad:
            return None
        weight, logits = head.weight, Logits(head.bias, head.scale, head.softcap)
        ids, mask, labels = (inputs[n] for n in ("input_ids", "attention_mask", "labels"))
        order = label_order(labels[:, 1:] != IGNORE_INDEX)
        if self.stored is not None:
            log_probs, tokens = (t.to(ids.device) for t in self.stored.of(rows.tolist()))

            def score(hidden: Tensor, batch: CompactBatch) -> Tensor:
                at = order[batch.slots]
                stored = log_probs[at], tokens[at]
                return top_k_divergence(hidden, weight, *stored, beta=self.beta, logits=logits)

        else:
            taught = self.teacher.hidden_rows(ids, mask, labels)
            of_teacher, teacher_logits = self.teacher.head()

            def score(hidden: Tensor, batch: CompactBatch) -> Tensor:
                theirs = taught[order[batch.slots]]
                return linear_divergence(
                    hidden,
                    weight,
                    theirs,
                    of_teacher,
                    beta=self.beta,
                    logits=logits,
                    teacher_logits=teacher_logits,
                )

        with self.accelerator.autocast():
            return score_rows(compact, labels, {"input_ids": ids, "attention_mask": mask}, score)

    def _from_logits(self, model: nn.Module, inputs: dict[str, Any], rows: Tensor) -> Tensor:
        """Return the divergences [M] from stored tokens and whole logits."""
        assert self.stored is not None
        learned = inputs["labels"][:, 1:] != IGNORE_INDEX
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        student = outputs.logits[:, :-1][learned].float().log_softmax(-1)
        log_probs, tokens = (t.to(student.device) for t in self.stored.of(rows.tolist()))
        others = student.scatter(1, tokens, -torch.inf).logsumexp(-1, keepdim=True)
        grouped = torch.cat((student.gather(1, tokens), others), 1)
        per_token: Tensor = self.generalized_jsd_loss(
            grouped, log_probs, beta=self.beta, reduction="none"
        )
        return per_token.sum(-1)

    @staticmethod
    def generate_on_policy_outputs(model: Any, inputs: Any, generation_config: Any) -> Any:
        """Return TRL's batch of drawn answers, which strop's sampler draws where it can."""
        return GKDTrainer.generate_on_policy_outputs(_Sequences(model), inputs, generation_config)

    def log(self, logs: dict[str, float], *args: Any, **named: Any) -> None:
        """Log the number of tokens so far, which this trainer of TRL does not count."""
        if "loss" in logs:
            logs = {**logs, "num_tokens": self._tokens}
        super().log(logs, *args, **named)


@dataclasses.dataclass(frozen=True, slots=True)
class _Sequences:
    """A model whose `generate` returns an object with the sequences."""

    model: Any

    def generate(self, *, return_dict_in_generate: bool, **call: Any) -> "_Drawn":
        return _Drawn(self.model.generate(**call))


@dataclasses.dataclass(frozen=True, slots=True)
class _Drawn:
    sequences: Tensor


class Trainer(sft.Trainer, _Taught):
    """A student's trainer, with held-out losses as means over labelled tokens."""
