"""README.md of published weights: a model card for the Hugging Face hub, from what the run recorded."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from strop.core.files import written_whole
from strop.models.packaged import license_of, published_name
from strop.runs.command import train_command
from strop.runs.outcome import outcome
from strop.runs.reward_model import rewards_answers
from strop.runs.run import Run

FILE = "README.md"
_LIBRARY = {"adapter": "peft", "merged": "transformers", "bnb": "transformers"}
_RELATION = {"adapter": "adapter", "merged": "finetune"}
_WHAT = {
    "adapter": "LoRA adapter",
    "merged": "merged weights",
    "gguf": "GGUF file for llama.cpp",
    "ollama": "GGUF file and Modelfile for Ollama",
    "bnb": "weights in bitsandbytes' 4 bits",
}


def write(
    run: Run, folder: Path, kind: str = "adapter", verdict: Mapping[str, Any] | None = None
) -> None:
    """Write the card of the weights of a run into their folder; later calls replace it.

    Args:
        run: a finished run.
        folder: of the weights.
        kind: target of the export; the adapter that training wrote is `adapter`.
        verdict: of the certificate; None where there is none.
    """
    text = "\n".join([*_metadata(run, kind), *_body(run, kind, verdict)]) + "\n"
    with written_whole(folder / FILE) as scratch:
        scratch.write_text(text, encoding="utf-8")


def _metadata(run: Run, kind: str) -> Iterator[str]:
    """Yield the YAML header that the hub reads."""
    base = published_name(run.settings["model"])
    scores = rewards_answers(run)
    header: dict[str, Any] = {
        "base_model": base,
        "base_model_relation": _RELATION.get(kind, "quantized"),
        "library_name": _LIBRARY.get(kind, "gguf"),
        "pipeline_tag": "text-classification" if scores else "text-generation",
        "tags": ["lora", "strop", *(["gguf"] if kind in ("gguf", "ollama") else [])],
    }
    if (license := license_of(run.settings["model"])) is not None:
        header["license"] = license
    yield from ("---", yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip(), "---")


def _body(run: Run, kind: str, verdict: Mapping[str, Any] | None) -> Iterator[str]:
    record = run.record
    settings, data = record["settings"], record["data"]
    base = published_name(settings["model"])
    sources = ", ".join(_names(data))
    yield f"\n# {run.path.resolve().name}: {_WHAT.get(kind, kind)}"
    yield (
        f"\n{base}, fine-tuned {_way(settings)} with "
        f"strop {record['versions']['strop']} in "
        f"{record['steps_done']:,} steps on {sources}, started {record['started'][:10]}."
    )
    yield "\n## Results\n"
    yield from (f"- {sentence}" for sentence in _results(run))
    if verdict is not None:
        yield "\n## Certificate\n"
        yield f"{'Certified' if verdict['passed'] else 'Not certified'}: {verdict['sentence']}."
    yield "\n## Made from\n"
    start = record.get("base", {})
    changed = ", changed before training (in `base/` of the run)" if start.get("kept") else ""
    yield f"- base model: {base}{changed}{_digest(start.get('sha256', {}).get('weights'))}"
    yield (
        f"- data: {data['rows']:,} rows of {sources} ({data['format']}), "
        f"{data['held_out_rows']:,} more held out{_digest(data['sha256'], 'of their tokens')}"
    )
    yield f"- base weights in {settings['bits']} bits while training, products in {settings['dtype']}"
    yield "\n## How to repeat it\n"
    yield f"```bash\n{train_command(settings, _names(data), base)}\n```"
    if rewards_answers(run):
        yield "\n## How to use it\n"
        opening = _SCORES[kind].format(base=json.dumps(base))
        yield f"```python\n{opening}\n{_REWARD}\n```"
        if not settings["end_token"]:
            yield "\nIn training an answer ended before its end token: leave that out of the text."
    elif kind == "adapter" and settings.get("adapter") != "none":
        yield "\n## How to use it\n"
        yield _USE.format(base=json.dumps(base))


def _way(settings: Mapping[str, Any]) -> str:
    if settings.get("adapter") == "none":
        return "in full, all of its weights"
    return f"by LoRA (rank {settings['rank']}, alpha {settings['alpha']})"


_USE = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(model, "this/folder")
```"""

_SCORES = {
    "merged": """from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this/folder")
model = AutoModelForSequenceClassification.from_pretrained("this/folder")""",
    "adapter": """from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this/folder")
model = AutoModelForSequenceClassification.from_pretrained({base}, num_labels=1)
model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
model = PeftModel.from_pretrained(model, "this/folder")""",
}
"""Opening of a reward model, by the kind of its folder."""

_REWARD = """chat = [
    {"role": "user", "content": "Why is the sky blue?"},
    {"role": "assistant", "content": "Air scatters blue light most."},
]
text = tokenizer.apply_chat_template(chat, tokenize=False).rstrip()  # to the end of the answer
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
reward = model(**ids).logits[0, 0].item()"""


def _results(run: Run) -> Iterator[str]:
    """Yield what got better or worse, with intervals where it was evaluated."""
    yield from outcome(run.log, run.record).sentences()
    if (evaluation := run.evaluation) is None:
        return
    base, tuned = evaluation["base"], evaluation["tuned"]
    rows = f"{tuned['rows']:,} rows of {Path(evaluation['data']).name}"
    for name in ("accuracy", "loss", "perplexity"):
        if base.get(name) and tuned.get(name):
            yield f"{name} on {rows}: {_estimate(base[name])} before, {_estimate(tuned[name])} after"
    if note := tuned.get("note"):
        yield note


def _estimate(measure: Mapping[str, Any]) -> str:
    if measure.get("low") is None:
        return f"{measure['value']:.3f}"
    return f"{measure['value']:.3f} (95 % interval {measure['low']:.3f} to {measure['high']:.3f})"


def _names(data: Mapping[str, Any]) -> list[str]:
    """Return the names of the data's files, without their folders."""
    sources = [part["name"] for part in data.get("sources", ())] or [data["source"]]
    return [Path(name).name for name in sources]


def _digest(sha256: str | None, of: str = "") -> str:
    return f", SHA-256 {of} {sha256}".replace("  ", " ") if sha256 else ""
