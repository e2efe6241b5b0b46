"""How near the sampler's log-probabilities are to float64, beside those of transformers' `generate`.

Run as `python benchmarks/sampling_accuracy.py [--models ...] [--tokens 24]`; writes
benchmarks/results/cpu/sampling_accuracy.json. Each packaged model answers prompts of 20 to 400 tokens in
float32, the likeliest token each time; then the same model in float64 reads prompt and answer at once.
Where the two answers part, the margin in float64 between the two tokens says whether it was a tie.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from compare import RESULTS, circumstances, in_a_process

import strop
from strop.core.files import write_json

MODELS = ("smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct")
TEXT = Path("/usr/share/common-licenses/GPL-3")
PROMPTS = ((0, 20), (500, 70), (1200, 150), (2000, 250), (3000, 400))
"""Where a prompt begins in the text, and its tokens."""


def main() -> None:
    """Measure each model in a process of its own; keep what was there of others."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "sampling_accuracy.json")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measured(options.models[0], options.tokens)))
        return
    models = json.loads(options.out.read_text())["models"] if options.out.is_file() else {}
    for name in options.models:
        settings = ["--worker", "--models", name, "--tokens", str(options.tokens)]
        models[name] = in_a_process(Path(__file__).name, *settings)
        print(name, {k: v for k, v in models[name].items() if k != "prompts"}, flush=True)
        write_json(options.out, {"tokens": options.tokens, "models": models, **circumstances()})


def measured(name: str, tokens: int) -> dict[str, Any]:
    """Return the distances of one model, in total and for each prompt."""
    model, tokenizer = strop.load(name, bits=16)
    model = model.float().eval()
    ids = tokenizer(TEXT.read_text())["input_ids"]
    prompts = [ids[start : start + length] for start, length in PROMPTS]
    settings = strop.Sampling(max_new_tokens=tokens, min_new_tokens=tokens)
    answers = strop.sample(model, tokenizer, prompts, settings)
    generated = [by_generate(model, prompt, tokens) for prompt in prompts]
    model = model.double()
    rows = []
    for prompt, answer, (others, log_probs) in zip(prompts, answers, generated, strict=True):
        equal = next(
            (
                i
                for i, pair in enumerate(zip(answer.ids, others, strict=True))
                if pair[0] != pair[1]
            ),
            tokens,
        )
        exact = in_float64(model, prompt, others)
        truth = exact[range(tokens), others][:equal]
        ours = torch.tensor(answer.log_probs, dtype=torch.float64)[:equal]
        theirs = log_probs[:equal]
        row = {
            "prompt": len(prompt),
            "equal_tokens": equal,
            "strop_from_float64": float((ours - truth).abs().max()),
            "generate_from_float64": float((theirs - truth).abs().max()),
            "strop_from_generate": float((ours - theirs).abs().max()),
        }
        if equal < tokens:
            row["margin"] = float(exact[equal, others[equal]] - exact[equal, answer.ids[equal]])
        rows.append(row)
    worst = {key: max(r[key] for r in rows) for key in rows[0] if key.endswith(("64", "generate"))}
    return worst | {"equal_tokens": sum(r["equal_tokens"] for r in rows), "prompts": rows}


@torch.no_grad()
def by_generate(model: Any, prompt: list[int], tokens: int) -> tuple[list[int], torch.Tensor]:
    """Return the tokens that transformers generates and their log-probabilities."""
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, repetition_penalty=1.0,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    ids = out.sequences[0, len(prompt) :].tolist()
    return ids, torch.cat(out.logits).log_softmax(-1)[range(tokens), ids].double()


@torch.no_grad()
def in_float64(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Return the log-probabilities [n, V] at each token of an answer."""
    whole = torch.tensor([prompt + answer[:-1]])
    log_probs: torch.Tensor = model(whole, logits_to_keep=len(answer)).logits[0].log_softmax(-1)
    return log_probs


if __name__ == "__main__":
    main()
