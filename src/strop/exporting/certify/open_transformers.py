"""Run in a fresh process: open an exported folder with transformers or PEFT alone and compare it.

A model that rewards answers is opened as a classifier with one label, others as language models.

python -m strop.exporting.certify.open_transformers KIND FOLDER WORK OUT
"""

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from strop.core.files import read_json
from strop.core.quiet import quiet
from strop.data.encoding.chat import chat_ids
from strop.data.encoding.templates import render_on, templates_of
from strop.exporting.certify.findings import Findings, report
from strop.exporting.certify.reference import NEW_TOKENS, ReferenceOutputs
from strop.exporting.certify.rewards.limits import ReferenceRewards
from strop.exporting.weights.rotary import head_size
from strop.exporting.weights.sketches import ROUNDING, adapted, fault, projection, trained_name
from strop.metrics.divergence import agreement
from strop.metrics.rewards import reward_agreement
from strop.models.files.opening import conversion
from strop.models.files.weight_files import stored_tensors


def main() -> None:
    """Compare the folder named on the command line."""
    kind, folder, work, out = sys.argv[1:]
    with quiet():
        report(
            Path(work),
            Path(out),
            lambda reference, findings: look(kind, Path(folder), reference, findings),
        )


@torch.no_grad()
def look(kind: str, folder: Path, reference: ReferenceOutputs, findings: Findings) -> None:
    """Open `folder` and compare its weights and tokens, and its distributions and answers or rewards."""
    from transformers import AutoTokenizer

    findings.begin("opening the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    render_on(tokenizer, None if reference.day is None else date.fromisoformat(reference.day))
    findings.begin("comparing tokens of texts and chats")
    _compare_tokens(tokenizer, reference, findings)
    findings.begin("opening the model")
    model = _opened(kind, folder, reference.rewards, findings).eval()
    findings.begin("comparing weights")
    _compare_settings(model, reference, findings)
    _compare_weights(model, _formats(folder), reference, findings)
    if reference.rewards is None:
        _compare_outputs(model, reference, findings)
    else:
        findings.begin("comparing rewards")
        _compare_rewards(model, reference.rewards, findings)


def _compare_outputs(model: Any, reference: ReferenceOutputs, findings: Findings) -> None:
    """Compare distributions and answers."""

    def logits(ids: Sequence[int]) -> Tensor:
        return model(input_ids=torch.tensor([ids])).logits[0]

    findings.begin("comparing distributions")
    findings.agreement = agreement(
        reference.texts, reference.context_starts, reference.log_probs, logits
    )
    findings.begin("comparing answers")
    for ids, right in zip(reference.chat_ids, reference.answers, strict=True):
        answer = _answer(model, ids)
        ended = bool(answer) and answer[-1] in reference.ends
        findings.compare_answer(right, answer, ended, reference.ends)


def _compare_rewards(model: Any, trained: ReferenceRewards, findings: Findings) -> None:
    """Compare the rewards of conversations, two of them at once, the shorter one padded."""
    pad = model.config.get_text_config().pad_token_id
    if model.config.num_labels != 1 or pad != trained.pad:
        findings.faults.append(
            f"config.json says {model.config.num_labels} labels and the padding token {pad}; a "
            f"reward is 1 label, and {trained.pad} ended conversations in training"
        )
        return
    rewards: list[float] = []
    for start in range(0, len(trained.texts), 2):
        batch = [torch.tensor(text) for text in trained.texts[start : start + 2]]
        ids = pad_sequence(batch, batch_first=True, padding_value=trained.pad)
        ones = [torch.ones_like(text) for text in batch]
        mask = pad_sequence(ones, batch_first=True)
        rewards += model(input_ids=ids, attention_mask=mask).logits[:, 0].tolist()
    findings.rewards = reward_agreement(trained.rewards, rewards, trained.pairs)


def _opened(kind: str, folder: Path, rewards: ReferenceRewards | None, findings: Findings) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if kind == "adapter":
        return _over_base(folder, rewards)
    auto = AutoModelForCausalLM if rewards is None else AutoModelForSequenceClassification
    model, loaded = auto.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    for key, what in (("missing_keys", "lacks"), ("unexpected_keys", "has no place for")):
        if names := sorted(loaded[key]):
            findings.faults.append(f"the folder {what} {names[0]} ({len(names)} such tensors)")
    for parameter in model.parameters():
        if parameter.is_floating_point():  # beside 4-bit weights transformers mixes 16 bits and 32
            parameter.data = parameter.data.float()
    return model


def _over_base(folder: Path, rewards: ReferenceRewards | None) -> Any:
    """Return the adapter in a folder over its base, as its model card says."""
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForSequenceClassification

    if rewards is None:
        return AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    classifier = AutoModelForSequenceClassification.from_pretrained(
        read_json(folder / "adapter_config.json")["base_model_name_or_path"],
        num_labels=1,
        dtype=torch.float32,
        local_files_only=True,
    )
    classifier.config.get_text_config().pad_token_id = rewards.pad
    return PeftModel.from_pretrained(classifier, folder)


def _compare_tokens(tokenizer: Any, reference: ReferenceOutputs, findings: Findings) -> None:
    for text, ids in reference.tokenizer_stress_texts:
        ids_read = tokenizer(text, add_special_tokens=False)["input_ids"]
        findings.compare_ids(f"the text {text[:24]!r}", ids_read, ids)
    if reference.chats and "default" not in templates_of(tokenizer):
        findings.faults.append("the chat template is lost")
        return
    for chat, ids in zip(reference.chats, reference.chat_ids, strict=True):
        rendered = chat_ids(tokenizer, chat)
        findings.compare_ids("a chat rendered by its template", rendered, ids)
    for prompt in reference.prompts:
        rendered = chat_ids(tokenizer, prompt.messages, prompt.tools)
        findings.compare_ids(f"{prompt.what}, rendered by its template,", rendered, prompt.ids)
    begun = tokenizer("a")["input_ids"]
    if (begun[:1] == [reference.begin]) != (reference.begin is not None):
        findings.faults.append("plain texts no longer begin as they did in training")


def _compare_settings(model: Any, reference: ReferenceOutputs, findings: Findings) -> None:
    config = model.config.to_dict()
    for key, expected in reference.config.items():
        if key in config and not _agrees(config[key], expected):
            findings.faults.append(f"config.json says {key} {config[key]}; trained was {expected}")
    if reference.rewards is not None:
        return  # it generates nothing
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    if lost := sorted(set(reference.ends) - set(stops)):
        findings.faults.append(
            f"generation does not stop at the end token {lost[0]} but at {stops}"
        )


def _agrees(value: Any, expected: Any) -> bool:
    """Return whether a setting agrees; of a nested one, only entries that were recorded."""
    if not (isinstance(value, dict) and isinstance(expected, dict)):
        return bool(value == expected)
    return all(key not in value or _agrees(value[key], expected[key]) for key in expected)


def _compare_weights(
    model: Any, formats: dict[str, str], reference: ReferenceOutputs, findings: Findings
) -> None:
    sketches, heads = dict(reference.sketches), head_size(model.config)
    for name, value in _weights(model):
        if name not in sketches:
            continue
        kind = formats.get(name, reference.base_kind)
        head = heads if any(k in name for k in (".q_proj.", ".k_proj.")) else 0
        wrong = fault(name, projection(value), kind, sketches, head)
        findings.weights += 1
        findings.coarsest = max(kind, findings.coarsest or kind, key=ROUNDING.__getitem__)
        if wrong:
            findings.faults.append(wrong)


def _formats(folder: Path) -> dict[str, str]:
    """Return the number format of each weight in the files of a folder; an adapter has none."""
    if not (folder / "config.json").is_file():
        return {}
    layout, stored = conversion(folder).layout, stored_tensors(folder)
    files = {m: n for n, m in layout.names.items()}
    files |= {m: group.files[0] for group in layout.groups for m in group.memory}
    files |= {name: name for name in layout.unplaced}  # a classifier's head
    codes = {memory: stored[name].code for memory, name in files.items()}
    formats = {memory: {"U8": "NF4"}.get(code, code) for memory, code in codes.items()}
    for name in [name for name in formats if name.endswith("embed_tokens.weight")]:
        formats.setdefault("lm_head.weight", formats[name])  # tied
    return formats


def _weights(model: Any) -> Any:
    """Yield name and value of every weight, an adapter merged in by PEFT, codes of 4 bits read."""
    base, layers = model, {}
    if hasattr(model, "peft_config"):
        base = model.base_model.model
        layers = adapted(base)
    packed = {f"{n}.weight": m for n, m in base.named_modules() if hasattr(m, "quant_state")}
    for key, value in base.state_dict().items():
        if ".lora_" in key or ".original_module." in key:
            continue
        name = trained_name(key)
        if (layer := layers.get(name)) is not None:
            layer.merge()
            yield name, getattr(layer.get_base_layer(), name.rpartition(".")[2])
            layer.unmerge()
        elif key in packed:
            yield name, _unpacked(packed[key])
        else:
            yield name, value


def _unpacked(layer: Any) -> Tensor:
    """Return the weight of a layer of bitsandbytes, by its own reading."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(layer.weight.data, layer.weight.quant_state)


def _answer(model: Any, ids: list[int]) -> list[int]:
    """Answer with the exported model's own generation settings, which say where it stops."""
    prompt = torch.tensor([ids])
    out = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
    )
    return list(out[0, len(ids) :].tolist())


if __name__ == "__main__":
    main()
