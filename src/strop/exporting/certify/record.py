"""Records the trained model's outputs, which its exports are compared with."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import DataError
from strop.core.tokens import common_prefix
from strop.data import encode_all
from strop.data.encoding.chat import chat_ids, chat_text
from strop.data.encoding.templates import template_of
from strop.data.reading.blend import files_of
from strop.data.reading.read import read_by
from strop.data.rows import Row
from strop.exporting.certify.certified import adapter_digest
from strop.exporting.certify.prompts import prompts
from strop.exporting.certify.reference import NEW_TOKENS, ReferenceOutputs
from strop.exporting.certify.rewards.record import record_rewards
from strop.exporting.gguf.architectures import GGUF_ARCHITECTURES, metadata
from strop.exporting.gguf.channel_scaling import ChannelScaling
from strop.exporting.weights.sketches import WeightSketch, adapted, sketch_of, trained_name
from strop.forward.base_model import base_model
from strop.layers.quantized_linear import QuantizedLinear
from strop.metrics.divergence import Answer, considered
from strop.models.assets import ModelAssets
from strop.runs.reward_model import RewardModel, rewards_answers
from strop.runs.run_data import columns_of_run, rows_of_run
from strop.training import Run

POSITIONS, BYTES = 512, 256_000_000
"""Limits of the next-token distributions compared: their number and their bytes."""
LONGEST = 160
"""Tokens of a text; longer ones are cut."""
_STORAGE = {"dtype", "transformers_version", "_name_or_path", "architectures", "pad_token_id"}
"""Entries of config.json that do not change what a model computes."""
CHATS = 8
"""Questions that are answered."""
QUESTIONS = (
    "Name three rivers.",
    "What is 17 plus 25?",
    "Write one sentence about the sea.",
    "Translate to French: good morning.",
    "Why is the sky blue?",
    "List two uses of salt.",
    "Who wrote Hamlet?",
    "Explain gravity to a child.",
)
"""Questions put to the model where a run has no rows to compare on."""
TOKENIZER_STRESS_TEXTS = (
    "  two spaces, a tab\tand\n\n\nthree newlines\r\n",
    "1234567 3.14159 0x1F 1,000,000",
    "don't can't I'LL we've it's",
    "naïve café Ünïcödé Größe ŝ",
    "漢字かな交じり文 안녕하세요 привет مرحبا नमस्ते",
    "🙂👩‍👩‍👧 e\u0301 \u00a0 \u200b",
    "def f(x):\n    return x**2  # square\n",
    '<b>&amp;</b> {"a": [1, 2]} \\n \\\\',
    "AAAAAAAAAAAAAAAA ........ ----",
)
"""Texts that tokenizers easily cut differently."""


@torch.no_grad()
def record_reference(run: Run, assets: ModelAssets, data: Any = None) -> ReferenceOutputs:
    """Load the trained model, base and adapter apart as in training, and record its outputs.

    Of a model that rewards answers these are rewards, of others distributions and answers.

    Args:
        run: a finished run.
        assets: what surrounds its weights.
        data: rows to compare on; None takes the rows that the run held out.

    Raises:
        DataError: `data` cannot be used.
    """
    judge = RewardModel.of(run) if rewards_answers(run) else None
    model = run.load()[0] if judge is None else judge.classifier
    model.float()  # so that only the export's own rounding is seen
    tokenizer = assets.tokenizer
    source, rows = _rows(run, data)
    texts, context_starts, log_probs = [], [], torch.empty(0)
    if judge is None:
        texts = _texts(rows, tokenizer, model.config.get_text_config().vocab_size)
        context_starts = [_shared(ids, texts[:i]) for i, ids in enumerate(texts)]
        log_probs = _log_probs(model, texts, context_starts)
    chats = _chats(rows) if template_of(tokenizer) else []
    questions = [chat_ids(tokenizer, chat) for chat in chats]
    plain = tokenizer("a")["input_ids"]
    unused = _STORAGE if judge is None else _STORAGE | {"tie_word_embeddings"}  # to a lost head
    sketches, scaled = _sketches(model, ChannelScaling(run.activation_stats(), assets.text_config))
    return ReferenceOutputs(
        source=source,
        texts=texts,
        context_starts=context_starts,
        chats=chats,
        chat_ids=questions,
        chat_texts=[chat_text(tokenizer, chat) for chat in chats],
        answers=[_answer(model, ids, assets.ends) for ids in questions] if judge is None else [],
        prompts=prompts(rows, tokenizer),
        tokenizer_stress_texts=[
            (text, _plain_ids(tokenizer, text)) for text in TOKENIZER_STRESS_TEXTS
        ],
        ends=assets.ends,
        day=run.record.get("day"),
        config={k: v for k, v in assets.stated.items() if k not in unused},
        gguf=metadata(assets.text_config)
        if assets.text_config.model_type in GGUF_ARCHITECTURES
        else {},
        trained=adapter_digest(run.weights()),
        base_kind=_base_kind(run, assets),
        rewards=None if judge is None else record_rewards(judge, rows),
        begin=plain[0] if len(plain) > 1 and plain[0] == tokenizer.bos_token_id else None,
        log_probs=log_probs,
        sketches=sketches,
        scaled=scaled,
    )


def _rows(run: Run, data: Any) -> tuple[str, list[Row]]:
    record = run.record
    if data is not None:
        given = read_by(data, columns_of_run(record))
        return given.source, given.rows
    parts = rows_of_run(record)
    if parts is None:
        return "built-in questions", [_question(text) for text in QUESTIONS]
    trained, held_out = parts
    names = ", ".join(path.name for path in files_of(record["settings"]["data"]))
    if held_out:
        return f"{len(held_out)} rows of {names} held out of training", held_out.rows
    return f"{names}, all of it trained on", trained.rows


def _question(text: str) -> Row:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]
    return Row(line=1, messages=messages)


def _texts(rows: Sequence[Row], tokenizer: Any, V: int) -> list[list[int]]:
    """Return the tokens of rows, as many as fit into the memory for their distributions."""
    room = min(POSITIONS, BYTES // (4 * V))
    if template_of(tokenizer) is None:
        rows = [row for row in rows if row.text is not None] or [
            Row(line=1, text=text) for text in QUESTIONS
        ]
    texts: list[list[int]] = []
    for example in encode_all(list(rows[:64]), tokenizer):
        ids = list(example.ids[:LONGEST])
        first = _shared(ids, texts)
        ids = ids[: first + room + 1]
        if len(ids) > first + 1:
            texts.append(ids)
            room -= len(ids) - 1 - first
        if room < 1:
            break
    if not texts:
        raise DataError("there is no text to compare the exported model on; give rows with data=")
    return texts


def _log_probs(model: Any, texts: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
    each = zip(texts, starts, strict=True)
    return torch.cat([torch.log_softmax(_logits(model, ids)[first:-1], -1) for ids, first in each])


def _shared(ids: Sequence[int], others: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens of `ids` begin one of the others too."""
    return max((common_prefix(ids, other) for other in others), default=0)


def _chats(rows: Sequence[Row]) -> list[list[dict[str, str]]]:
    chats = []
    for row in rows:
        turns = [
            {"role": str(m["role"]), "content": str(m["content"])}
            for m in row.messages or []
            if m["role"] in ("system", "user") and isinstance(m.get("content"), str)
        ]
        if turns and turns[-1]["role"] == "user" and len(turns) <= 2:
            chats.append(turns)
    chats += [[{"role": "user", "content": text}] for text in QUESTIONS]
    return chats[:CHATS]


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _logits(model: Any, ids: Sequence[int]) -> Tensor:
    logits: Tensor = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
    return logits.cpu()


def _answer(model: Any, ids: list[int], ends: list[int]) -> Answer:
    """Return the answer of likeliest tokens, with the other likely tokens of each step."""
    prompt = torch.tensor([ids], device=model.device)
    out = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        eos_token_id=ends,
        output_logits=True,
        return_dict_in_generate=True,
    )
    answer = out.sequences[0, len(ids) :].tolist()
    steps = [considered(scores[0].cpu()) for scores in out.logits]
    return Answer(answer, bool(answer) and answer[-1] in ends, steps)


def _base_kind(run: Run, assets: ModelAssets) -> str:
    if run.settings["bits"] == 4:
        return "NF4"
    narrow = (torch.bfloat16, torch.float16)
    return "F32" if run.settings["bits"] == 32 or assets.config.dtype in narrow else "BF16"


def _sketches(
    model: Any, scaling: ChannelScaling
) -> tuple[dict[str, WeightSketch], dict[str, WeightSketch]]:
    """Return the print of every weight of a tuned model in float32, under the base's names.

    The second are of the weights that `scaling` scales, as they are then.
    """
    base = base_model(model)
    layers = adapted(base)
    packed = {n: m for n, m in base.named_modules() if isinstance(m, QuantizedLinear)}
    sketches: dict[str, WeightSketch] = {}
    scaled: dict[str, WeightSketch] = {}
    for key, value in base.state_dict().items():
        module, _, parameter = key.rpartition(".")
        if (
            ".lora_" in key
            or ".original_module." in key
            or (module in packed and parameter not in ("weight", "bias"))
        ):
            continue
        if module in packed and parameter == "weight":
            layer = packed[module]
            value = layer.dense(torch.empty(layer.shape, device=value.device))
        name = trained_name(key)
        changed = layers.get(name)
        update = None if changed is None else _update(changed, value)
        weight = value.float().cpu()
        sketches[name] = sketch_of(weight, update)
        if name in scaling:
            added = None if update is None else scaling.apply(name, update)
            scaled[name] = sketch_of(scaling.apply(name, weight), added)
    return sketches, scaled


def _update(layer: Any, weight: Tensor) -> Tensor:
    """Return what an adapter adds to the weight of its layer, as PEFT computes it."""
    adapter = layer.active_adapters[0]
    update: Tensor = layer.get_delta_weight(adapter)
    if layer.use_dora.get(adapter):
        joined = weight + update
        norms = torch.linalg.vector_norm(joined, dim=1)
        update = joined * (layer.lora_magnitude_vector[adapter].weight / norms)[:, None] - weight
    return update.cpu()
