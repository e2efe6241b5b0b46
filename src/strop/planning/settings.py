"""Every setting of a run, declared once: type, default and meaning."""

import ast
import dataclasses
import functools
import itertools
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from strop.core.config import Config
from strop.core.units import size_in_bytes, time_in_seconds
from strop.planning import evaluations, rewards, trainer_arguments
from strop.planning.problems import adapters, distillation, optimizers, texts
from strop.planning.problems.adapters import ALL_LINEAR, Start
from strop.planning.problems.methods import MethodName


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Config):
    """What a training run does; Python keywords, command-line flags and YAML all arrive here."""

    model: str = "smollm2-135m-instruct"
    """Model to fine-tune: a packaged name, a folder, a GGUF file or a hub id."""
    data: str | list[Any] | None = None
    """File to train on, or several, each with a weight as in `b.csv:0.5`; empty for rows from Python."""
    map: str | dict[str, str] | None = None
    """Columns by other names than strop's: `question=prompt,reply=completion`."""
    ignore_columns: str | list[str] | None = None
    """Columns to read the data without, as in `source,notes`; others with content must be read."""
    instruction: str | None = None
    """What stands before each text of `text,label` rows; without it a sentence that names the labels."""
    encoding: str | None = None
    """Encoding of text files, as in cp1250; without it UTF-8, or what Excel writes if all of it fits."""
    method: MethodName = "auto"
    """sft imitates, text reads on, dpo … reward take pairs, kto marks, grpo, rloo rewards, distill asks."""
    replay: str | None = None
    """Texts mixed in by method text against forgetting, with their share of tokens: general.txt:0.1."""
    beta: float = 0.1
    """How strongly a method holds to the first model, or parts answers; distill: which divergence."""
    reward: str | list[str] | None = None
    """What grpo and rloo reward: FILE.py:function, or number, exact, format=a/b …, each with :WEIGHT."""
    environment: str | None = None
    """Tasks of reasoning-gym to train on by grpo or rloo, as gsm_symbolic; it draws prompts and rewards."""
    environment_rows: int = 500
    """Prompts that the environment draws."""
    num_generations: int = 8
    """Answers that grpo and rloo draw to each prompt; batch_size counts answers."""
    max_completion_length: int = 256
    """Tokens that a drawn answer may have."""
    temperature: float = 1.0
    """Of the drawn answers."""
    reward_timeout: float = 60.0
    """Seconds that one reward may take for the answers of a step."""
    teacher: str | None = None
    """What distill learns from: a run, one of its checkpoints, or a model."""
    top_k: int | None = None
    """Likeliest tokens of the teacher that are stored, once; without it all count, at each step anew."""
    lmbda: float = 0.0
    """Share of distill's steps on answers that the student draws; the others are on the data's (GKD)."""
    answers: Literal["all", "last"] = "all"
    """Which answers of a conversation are learned."""
    end_token: bool = True
    """Whether the token that ends an answer is learned, so that the model learns to stop."""
    reasoning: bool = True
    """Whether the reasoning before an answer is learned."""
    out: str | None = None
    """Folder of the run; without it the next free one under runs/."""
    held_out: int | float | str = 0.05
    """Rows not trained on, to measure the loss: a share below 1, a number of rows, or a file of them."""
    seed: int = 0
    """Decides the split, the adapter's first weights and the order of the rows."""
    epochs: float = 1.0
    """Passes over the data, by its rows unless set; ignored if max_steps is given."""
    max_steps: int | None = None
    """Optimizer steps to take, however many epochs that is."""
    learning_rate: float = 2e-4
    """Highest learning rate, reached after the warmup; by model, batch and method unless set."""
    probe: bool | None = None
    """Whether rates around it are tried in a few steps first; without it in long runs of no set rate."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on after the warmup."""
    warmup: float = 0.03
    """Share of all steps in which the learning rate rises from 0; 0.06 of up to 1,600 unless set."""
    batch_size: int = 16
    """Rows per optimizer step, by the data unless set; computed in parts where memory is short."""
    max_length: int | None = None
    """Tokens a row may have; without it the longest row, but above 4096 what covers 99 % of rows."""
    adapter: Literal["lora", "none"] = "lora"
    """lora trains an adapter on frozen weights; none all weights, held in 32 bits unless set."""
    freeze: str | list[str] | None = None
    """Weights that adapter none leaves alone, names or expressions, as in embed_tokens,layers.[0-9]."""
    train_embeddings: bool = False
    """Whether embeddings and head are trained whole beside an adapter, as new words or languages need."""
    add_tokens: str | None = None
    """Text file of tokens to add to the vocabulary, one a line; their embeddings are then trained."""
    embedding_learning_rate: float | None = None
    """Learning rate of embeddings and head where they are trained; without it as the rest."""
    optimizer: str | None = None
    """Optimizer: muon, or transformers' name as adafactor; without it AdamW."""
    update_in_backward: bool = False
    """Whether adapter none changes each weight as its gradient comes, so that few stand together."""
    rank: int = 16
    """LoRA rank, the size of the adapter: what it can learn; by the supervised tokens unless set."""
    alpha: int | float = 32
    """LoRA alpha: strength of the adapter, whose update is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Share of the adapter's inputs set to zero in training."""
    target_modules: str | list[str] = "all-linear"
    """Which layers get an adapter: all-linear, names as in q_proj,v_proj, or a regular expression."""
    rank_pattern: dict[str, int] = dataclasses.field(default_factory=dict)
    """Other ranks by layer, a name or regular expression each, as in down_proj=32."""
    alpha_pattern: dict[str, float] = dataclasses.field(default_factory=dict)
    """Other alphas by layer, as rank_pattern."""
    use_rslora: bool = False
    """rsLoRA: the update is multiplied by alpha / sqrt(rank), so that high ranks learn as fast."""
    use_dora: bool = False
    """DoRA: length and direction of each row of a weight are learned apart."""
    loraplus_lr_ratio: float | None = None
    """LoRA+: B learns so many times faster than A, 16 in its paper; without it equally fast."""
    continue_from: str | None = None
    """Adapter to begin with, of a run, PEFT or Unsloth; its rank, alpha and layers are taken."""
    lora_init: Start = "zero"
    """Where the adapter starts: at no change, by PEFT's names, or at part of the quantisation error."""
    weight_decay: float = 0.0
    """How strongly AdamW pulls the adapter towards 0."""
    max_grad_norm: float = 1.0
    """Longer gradients are scaled to this length; 0 leaves them as they are."""
    save_every: int | None = None
    """Steps between checkpoints; without it about ten times a run."""
    eval_every: int | None = None
    """Steps between losses on the held-out rows; without it after every epoch."""
    eval_metrics: str | list[str] | None = "labels"
    """Measured at each evaluation: names as accuracy,rouge_l; auto: by the data; labels: if there; none."""
    eval_rows: int | None = None
    """Held-out rows for eval_metrics; without it as many as are measured in a tenth of the time."""
    load_best_model_at_end: bool = False
    """Whether the adapter is that of the best evaluation, not of the last step; by the rows unless set."""
    metric_for_best_model: str | None = None
    """What tells the best evaluation: eval_loss, or a measure as accuracy, which is then measured."""
    early_stopping_patience: int | None = None
    """Evaluations without a better one after which it stops; by itself those of two epochs."""
    report_to: str | list[str] | None = None
    """Trackers that get what log.jsonl gets, as tensorboard,trackio; without it none, nothing is sent."""
    bits: Literal[4, 16, 32] = 4
    """Bits of the frozen weights; 4 stores linear layers in 4 bits, the rest in 16."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of products; auto: in which a step of the model is faster here, timed once."""
    accelerate: bool = True
    """Compute each token once, without padding; false trains the plain TRL way."""
    activations: Literal["auto", "keep", "checkpoint", "offload"] = "auto"
    """What is kept for backward: all, block inputs, or those in a file; auto: the fastest that fits."""
    micro_batch_tokens: int | None = None
    """Most tokens computed at once; without it as many as fit into the memory that is free."""
    memory: str | None = None
    """Most memory the run may take, as 1500MB: parts of a step get smaller, its result stays the same."""
    time: str | None = None
    """Longest time that training may take, as 20m: fewer epochs; without it as long as it takes."""
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further arguments of TRL's SFTConfig, as in optim=adafactor,adam_beta2=0.95; listed below."""

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Build from plain data, with weights of 32 bits where they are trained themselves."""
        usual = {"bits": 32} if settings.get("adapter") == "none" else {}
        return super(Settings, cls).read({**usual, **settings})

    def problems(self) -> Iterator[str]:
        """Yield one sentence for each value that cannot work."""
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f"{name} is {value}; it must be at least 1"
        for name in ("learning_rate", "epochs", "alpha", "reward_timeout"):
            if not getattr(self, name) > 0:
                yield f"{name} is {getattr(self, name)}; it must be above 0"
        for name in ("weight_decay", "max_grad_norm", "seed"):
            if not getattr(self, name) >= 0:
                yield f"{name} is {getattr(self, name)}; it must not be below 0"
        for name in ("warmup", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it is a share, from 0 to below 1"
        if self.max_length is not None and self.max_length < 2:
            yield f"max_length is {self.max_length}; a row needs at least 2 tokens"
        if self.bits == 32 and self.dtype not in ("auto", "float32"):
            yield f"dtype is {self.dtype}; weights of 32 bits compute in float32, so take other bits"
        if self.map is not None or self.data is not None:
            from strop.data.reading.blend import source_faults
            from strop.data.reading.columns import mapping_fault

            yield from mapping_fault(self.map)
            yield from source_faults(self.data)
        if self.encoding is not None:
            from strop.data.reading.encodings import encoding_fault

            if fault := encoding_fault(self.encoding):
                yield fault
        if not self.accelerate and self.micro_batch_tokens is not None:
            yield "micro_batch_tokens has no effect while accelerate is false; leave one of them out"
        if not self.accelerate and self.activations == "offload":
            yield "activations is offload, which needs accelerate to be true"
        yield from distillation.problems(self)
        yield from rewards.problems(self)
        yield from texts.problems(self)
        yield from trainer_arguments.problems(self.trainer, self.method)
        yield from adapters.problems(self)
        yield from optimizers.problems(self)
        yield from evaluations.problems(self)
        if self.trainer.get("lr_scheduler_kwargs") and self.schedule == "constant":
            yield "trainer.lr_scheduler_kwargs has no effect while schedule is constant"
        yield from self._limit_problems()

    def _limit_problems(self) -> Iterator[str]:
        """Yield what is no size or time."""
        if self.memory is not None and not size_in_bytes(self.memory):
            yield f"memory is {self.memory!r}; write a size such as 1500MB or 4GB"
        if self.time is not None and not time_in_seconds(self.time):
            yield f"time is {self.time!r}; write a time such as 90s, 20m or 1h30m"

    @property
    def frozen(self) -> list[str]:
        """Patterns of `freeze`."""
        given = self.freeze.split(",") if isinstance(self.freeze, str) else self.freeze or []
        return [pattern.strip() for pattern in given if pattern.strip()]

    @property
    def modules(self) -> str | list[str]:
        """Layers that get an adapter, as PEFT takes them: `all-linear`, names, or an expression.

        A text of nothing but names and commas is a list of names: PEFT would take it for a regular
        expression, which is matched against the whole path of a layer.
        """
        given = self.target_modules
        if isinstance(given, list):
            return ALL_LINEAR if given == [ALL_LINEAR] else given
        if given == ALL_LINEAR or not _NAMES.fullmatch(given):
            return given.strip()
        return [name.strip() for name in given.split(",") if name.strip()]


AUTO = "auto"
AUTOMATIC = (
    "epochs",
    "learning_rate",
    "warmup",
    "batch_size",
    "rank",
    "alpha",
    "eval_every",
    "load_best_model_at_end",
    "early_stopping_patience",
)
"""Settings that `planning.rules` chooses where they are left out, or are `auto`."""


def without_auto(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those that say `auto`, which the rules choose."""
    return {k: v for k, v in explicit.items() if not (k in AUTOMATIC and v == AUTO)}


_NAMES = re.compile(r"[\w.\-\s]+(,[\w.\-\s]+)*,?|\s*")

_AT_LEAST_ONE = (
    "batch_size",
    "rank",
    "max_steps",
    "save_every",
    "eval_every",
    "eval_rows",
    "early_stopping_patience",
    "micro_batch_tokens",
    "environment_rows",
    "max_completion_length",
    "top_k",
)


@functools.cache
def described() -> dict[str, tuple[Any, Any, str]]:
    """Return type, default and one line of meaning of each setting, in the order declared.

    The default of what the rules choose is `auto`.
    """
    body = ast.parse(Path(__file__).read_text(encoding="utf-8")).body
    declared = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == "Settings").body
    docs = {
        field.target.id: line.value.value
        for field, line in itertools.pairwise(declared)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
    }
    hints = typing.get_type_hints(Settings)
    defaults = Settings().plain() | dict.fromkeys(AUTOMATIC, AUTO)
    return {name: (hints[name], defaults[name], str(docs[name])) for name in defaults}
