"""Write pages of docs/explanation whose numbers come from results files."""

import statistics
from pathlib import Path

from results import read, rows_of
from wrap import wrapped, write_page

from strop.planning.rules import duration

FOLDER = Path(__file__).parent.parent / "docs" / "explanation"
BASES = {
    "nf4": "NF4, as bitsandbytes stores it",
    "dynamic-1.10": "strop, 1.10 times NF4's bytes",
    "dynamic-1.50": "strop, 1.50 times NF4's bytes",
}


def lora_or_qlora() -> str:
    """Return the page that compares weights in 16 bits and in 4."""
    rows = [r for r in read("gpu/memory.json")["table"] if r["activations"] == "checkpoint"]
    peaks = {(r["model"], r["bits"]): r["peak"] / 2**30 for r in rows if r["tokens"] == 2048}
    memory = [["peak, GiB", "QLoRA, 4 bits", "LoRA, 16 bits"]]
    for model in dict.fromkeys(r["model"] for r in rows):
        memory.append([model, *(f"{peaks[model, bits]:.1f}" for bits in (4, 16))])
    results = read("cpu/qlora_accuracy.json")
    loss = [["weights", *results["losses"]]]
    for base, name in BASES.items():
        gaps = [results["gaps"][task].get(base) for task in results["losses"]]
        loss.append([name, *("" if gap is None else f"{gap['mean']:+.1%}" for gap in gaps)])
    return f"""# LoRA or QLoRA

Both train a small adapter beside weights that stay as they are. LoRA leaves these weights in 16 bits, QLoRA
stores them in about 4. The adapter and its rank are the same; what differs is memory, a little time, and
how near the weights are to the original.

**In short**: QLoRA, strop's default, where memory is short, and for models of several billion parameters.
LoRA, `--bits 16`, where the model fits in 16 bits; small models lose most by rounding. `strop plan FILE
--bits 16` says whether it fits.

## Memory

A step of one row of 2,048 tokens, blocks recomputed, simulated to the byte ([memory](../memory.md)):

{rows_of(memory)}

## What rounding costs

The loss on held-out rows after training, beside the same training on 16 bits; {results["model"]}, mean of
the seeds. So small a model is the hard case ([all numbers](../four_bits.md)):

{rows_of(loss)}

The distance that is there before training mostly stays after it. `strop quantize --budget 1.50` buys it
back with bytes; another way is the next larger model in 4 bits.

## The file in the end

A run in 4 bits is exported against both bases, the rounded one and the original, and the nearer is
written; the certificate has both numbers ([export](../export.md)).
"""


def retrieval_or_training() -> str:
    """Return the page that compares fine-tuning and retrieval."""
    retrieval = read("cpu/retrieval.json")
    share = retrieval["recall"]["recall"]["all-minilm-l6-v2"]["fused"]
    ((model, of),) = read("cpu/teach.json").items()
    teach = of["teach"]
    recall = teach["recall"]
    arms = {name: raft["compare"]["arms"] for name, raft in read("cpu/raft.json").items()}
    both = "; ".join(
        f"{name} {of['base + works']['exact_match']['value']:.0%}, tuned on questions and answers "
        f"{of['tuned + works']['exact_match']['value']:.0%}, tuned on rows with documents "
        f"{of['raft + works']['exact_match']['value']:.0%}, and {of['raft + works']['cited']['value']:.0%} "
        "name the document"
        for name, of in arms.items()
    )
    demo = read("evaluation/demo.json")
    before, after = (demo[of]["accuracy"]["value"] for of in ("base", "tuned"))
    return f"""# Fine-tuning or retrieval

Fine-tuning changes how a model answers; retrieval changes what it sees. They are no rivals.

| you want | take |
|---|---|
| a form, a tone, a decision, a skill, fewer tokens of instruction | fine-tuning |
| answers from documents that change, with their source | retrieval |
| a small, fixed body of facts, answered without looking | teaching |
| both: answers of a certain form from documents | fine-tuning on rows with documents (RAFT) |

**A decision** is learned from rows: the demo's model gets {before:.0%} of newspaper sentences right before
and {after:.0%} after {demo["rows_of_training"]:,} of them ([measured](../evaluation.md#on-the-demo)).
No document would tell it.

**A fact** is looked up: of {retrieval["recall"]["questions"]:,} questions `strop search` has the right one
of {retrieval["recall"]["passages"]:,} passages among its first five for {share:.0%}. A changed document
is found at once, and the answer names it ([documents](../documents.md)).

**Facts can be taught**, at a price: of a fictional handbook of {teach["facts"]} facts {model} answers
{recall["before"]["value"]:.0%} before and {recall["after"]["value"]:.0%} after `strop teach`, in wordings
it was not trained on, after {teach["seconds"] / 60:.0f} minutes on 2 cores. Each fact was trained on in
several wordings, with general text mixed in. When the handbook changes,
it has to be taught anew.

**Both together** are more than either. Questions about articles of a constitution that nobody was trained
on, with the documents that retrieval finds, answered word for word: {both}. Tuned models without
documents know none of them; with none found, the one tuned on documents loses nothing
([documents](../documents.md#measured)).

**Do not fine-tune** for facts that change daily, for answers that must name a source, with a handful of
rows and no way to measure, or before a better prompt was tried: `strop eval MODEL rows.jsonl` says
how good it is already.
"""


def data_amount() -> str:
    """Return the page on how much data a training needs."""
    bounds = [f"below {most:,} rows" for most, _ in duration.EPOCHS] + ["more"]
    passes = [str(number) for _, number in duration.EPOCHS] + ["1"]
    demo = read("evaluation/demo.json")
    gained = demo["difference"]["accuracy"]
    table = rows_of([["rows", *bounds], ["epochs", *passes]])
    return f"""# How much data

**Enough rows to measure with come first.** With 100 held-out rows a share of 80 % is known to 8 points,
with 400 to 4. `rows_needed` in `strop eval --json` is the number on which the difference you see would show
in four of five evaluations: for the demo's {100 * gained["value"]:.0f} points, {gained["rows_needed"]}.

**Then good rows rather than many.**
`strop data check` names repeated, empty, contradicting and cut rows; `--fix` takes them out.

| task | rows to begin with |
|---|---|
| one of a few labels | some dozens for each label |
| a form, a tone | 100 to 500 |
| a new skill | some thousands |
| a domain's language | as many texts as there are (`--method text`) |
| preferences | some hundreds of pairs |

These are starting points, not measurements. What helps is measured: train on half of the rows and on all of
them (`strop train half.jsonl`), and compare both runs on the same held-out rows with `strop eval RUN
FILE --against OTHER`. If the second half brought nothing, more of the same will not.

## How often they are read

Unless `--epochs` says otherwise:

{table}

A rate of learning that suits them, batch and rank follow from the rows as well
([planning](../planning.md)); `strop plan FILE` shows each with its reason.
Where the held-out loss rises again, the run doctor says so.
"""


def cost() -> str:
    """Return the page on time and memory of a training."""
    step = read("cpu/bfloat16.avx512-bf16.json")
    machine = step["machine"]
    tokens = statistics.mean(step["floor"]["tokens"][1:])
    speeds = {name: tokens / mode["seconds"] for name, mode in step["modes"].items()}
    ways = {
        "strop-bfloat16": "strop",
        "strop-held-lean-bfloat16": "strop, leanest",
        "trl-rows-bfloat16": "TRL at its best setting",
    }
    speed = [["tokens a second", "", "minutes for 1,000 rows of 200 tokens", "GB above imports"]]
    for name, label in ways.items():
        minutes = 200_000 / speeds[name] / 60
        used = f"{step['modes'][name]['rss'] / 1e9:.2f}"
        speed.append([label, f"{speeds[name]:.0f}", f"{minutes:.1f}", used])
    rows = read("gpu/memory.json")["table"]
    longest = [r for r in rows if r["tokens"] == 2048 and r["activations"] == "checkpoint"]
    work = [["model", "TFLOP for 1,000 tokens", "QLoRA, GiB"]]
    for row in (r for r in longest if r["bits"] == 4):
        work.append([row["model"], f"{row['flops'] / 2.048e12:.0f}", f"{row['peak'] / 2**30:.1f}"])
    return f"""# What it costs

Before a training `strop plan FILE` predicts its time and its peak of memory on the machine at hand, with
the least and the most that is likely; while it runs and at its end both are compared with what was
measured. Nothing is sent anywhere and nothing needs an account, so the cost is time and electricity.

## A small model without a card

smollm2-135m-instruct (135 million parameters), {machine["cores"]} cores ({machine["cpu"]}, bfloat16 units),
chats of very different lengths, commit {step["commit"][:7]}:

{rows_of(speed)}

Evaluation, export and certificates come on top; `strop plan` counts them.

## Larger models

Time follows from the arithmetic. A step with recomputed blocks on one row of 2,048 tokens, simulated:

{rows_of(work)}

Divided by what the machine computes in a second, which `strop doctor` measures, it gives the least time.
What a step takes on a card is not measured ([GPU](../gpu.md)).

## What makes it cheaper

Fewer and better rows ([how much data](data_amount.md)); a shorter `--max-length`; a smaller model; an
instruction that all rows share costs its tokens once. `--time 20m` takes what fits.
"""


PAGES = {
    "lora_or_qlora.md": lora_or_qlora,
    "retrieval_or_training.md": retrieval_or_training,
    "data_amount.md": data_amount,
    "cost.md": cost,
}


def pages() -> dict[Path, str]:
    """Return each page as it should be."""
    return {FOLDER / name: wrapped(page()) for name, page in PAGES.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        write_page(path, text)
