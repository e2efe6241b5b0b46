"""Write docs/sampling.md from results files, so that no number in it is made by hand."""

from pathlib import Path
from typing import Any

from results import read, rows_of
from wrap import write_page

PAGE = Path(__file__).parent.parent / "docs" / "sampling.md"
HEAD = """# Answers: how fast, how near

`strop.sample`, `strop predict`, `strop eval` of generated answers, and GRPO and RLOO under
`strop.accelerate` draw tokens by one sampler. A prompt is computed once whatever number of answers it
gets, and its keys and values are held once; then one call of C++ a token runs all blocks for all rows. It
reads weights in the format they are held in, adapters beside them. A model that computes in bfloat16 has
its activations rounded to it before each product, as the model itself does; all else is in float32.

"""
CASES = {
    "group": "8 answers of 128 to one prompt of 450",
    "mixed": "64 prompts of 20 to 400, answers of 1 to 128",
    "one": "one answer of 128 to a prompt of 64",
}
OTHERS = {"group": "`generate`", "mixed": "`generate`, batches of 8 by length", "one": "llama.cpp"}


def speed(results: dict[str, Any]) -> str:
    """Return what was measured of speed."""
    if not results:
        return "## Speed\n\nNo results yet.\n"
    cells = [["", "weights", "beside", "rounds, threads", "times as fast", "by processor time"]]
    for case, of in results["cases"].items():
        first = next(iter(of["runs"].values()))
        how = f"{len(first)}, {first[0]['threads']}"
        for name, ratio in of["seconds"]["times_as_fast"].items():
            spent = of["processor_seconds"]["times_as_fast"][name]
            cells.append([CASES[case], name, OTHERS[case], how, f"{ratio:.1f}", f"{spent:.1f}"])
    machine = f"{results['machine']['cores']} cores, {results['machine']['cpu']}"
    return (
        f"## Speed\n\n{results['model']}, {machine} ({', '.join(results['units'])}), commit "
        f"{results['commit'][:7]}, interleaved, each in a fresh process.\n\n{rows_of(cells)}\n"
    )


def labels(results: dict[str, Any]) -> str:
    """Return what was measured of `strop predict`."""
    if not results:
        return ""
    spent = results["processor_seconds"]
    return (
        f"\n`strop predict` of {results['rows']:,} newspaper sentences among three labels takes "
        f"{spent['labels_over_floor']:.2f} times the processor time of the matrix products that it "
        f"needs; {results['answers']} generated answers take {results['seconds']['answers']:.0f} s, the "
        f"whole command.\n"
    )


def choices(results: dict[str, Any]) -> str:
    """Return what was measured of multiple choice."""
    if not results:
        return ""
    measures = results["measures"]
    ours = measures["strop"]
    apart = max(abs(ours[k] - of[k]) for of in measures.values() for k in ours)
    count = round(apart * results["questions"])
    same = "the same results" if count == 0 else f"{count} of the results different, by rounding"
    return (
        f"\nMultiple choice by lm-evaluation-harness ({results['questions']} questions of four choices "
        f"after passages of about 300 tokens, {results['dtype']}): {results['ratio']:.1f} times as fast as "
        f"its own `hf` model at its better batch size, with {same}.\n"
    )


def grpo(results: dict[str, Any]) -> str:
    """Return what was measured of whole GRPO steps."""
    if not results:
        return ""
    each = " and ".join(
        f"{ratio:.1f} in {name}" for name, ratio in results["times_as_fast"].items()
    )
    return (
        f"\nA whole GRPO step, {results['answers']} answers of {results['tokens']} to a prompt of "
        f"{results['prompt']}, drawn and learned from: times as fast as plain TRL: {each}.\n"
    )


def nearness(results: dict[str, Any]) -> str:
    """Return how far log-probabilities are from float64."""
    if not results:
        return ""
    cells = [["", "strop from float64", "`generate` from float64", "apart", "equal tokens"]]
    for name, of in results["models"].items():
        count = len(of["prompts"]) * results["tokens"]
        distances = ("strop_from_float64", "generate_from_float64", "strop_from_generate")
        cells.append(
            [name, *(f"{of[key]:.1e}" for key in distances), f"{of['equal_tokens']} of {count}"]
        )
    return (
        "\n## Nearness\n\nThe largest difference of a chosen token's log-probability in float32, over "
        f"{len(of['prompts'])} prompts of 20 to 400 tokens and the likeliest {results['tokens']} tokens "
        "after each. "
        f"Commit {results['commit'][:7]}.\n\n{rows_of(cells)}\n\n"
        "`python benchmarks/sampling.py`, `predict.py`, `multiple_choice.py`, `grpo_step.py`, "
        "`sampling_accuracy.py` make the numbers, `make pages` this page.\n"
    )


def page() -> str:
    """Return the page as it should be."""
    return (
        HEAD
        + speed(read("cpu/sampling.json"))
        + labels(read("cpu/predict.json"))
        + choices(read("cpu/multiple_choice.json"))
        + grpo(read("cpu/grpo_step.json"))
        + nearness(read("cpu/sampling_accuracy.json"))
    )


if __name__ == "__main__":
    write_page(PAGE, page())
