"""Write the measured numbers into docs/methods.md, between its markers, from results files."""

from pathlib import Path
from typing import Any

from results import machine, read, rows_of, with_numbers
from wrap import write_page

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"
NAMES = {
    "trl-full-rows": "TRL, row by row",
    "trl-full-rows-checkpoint": "TRL, with gradient checkpointing",
    "strop-full": "strop",
    "strop-full-lean": "strop, lean",
}


def page() -> str:
    """Return the page with what was measured."""
    texts = []
    if full := read("cpu/full_weights.avx512-bf16.json"):
        texts.append(full_weights(full))
    if dpo := read("cpu/whole_dpo.json"):
        texts.append(whole(dpo))
    block = "\n\n".join(texts) or "No results have been recorded yet."
    return with_numbers(PAGE.read_text(encoding="utf-8"), block)


def full_weights(results: dict[str, Any]) -> str:
    """Return the table of training all weights, beside TRL as it is fastest."""
    fastest = results["trl_fastest"]
    cells = [["", "seconds a step", "times as fast", "peak, GB", "of its memory"]]
    for mode, name in NAMES.items():
        of = results["modes"][mode]
        ratio = results["modes"][fastest]["seconds"] / of["seconds"]
        share = of["rss"] / results["modes"][fastest]["rss"]
        cells.append(
            [name, f"{of['seconds']:.1f}", f"{ratio:.2f}", f"{of['rss'] / 1e9:.2f}", f"{share:.0%}"]
        )
    rounds = results["rounds"]
    return (
        "All weights of smollm2-135m-instruct, float32, chats of very different lengths "
        f"({machine(results)}; {rounds} round{'s' * (rounds > 1)}; losses agree to "
        f"{results['largest_loss_difference']:.0e}).\n\n{rows_of(cells)}"
    )


def whole(results: dict[str, Any]) -> str:
    """Return what a whole run of preferences took beside plain TRL."""
    return (
        f"A whole run of `--method {results['method']}` on {results['rows']} real pairs, once, beside "
        f"`--accelerate false`: {results['times_faster_training']:.2f} times as fast in training, "
        f"{results['times_faster']:.2f} with loading and report, "
        f"{results['share_of_memory']:.0%} of the memory, losses alike to "
        f"{results['largest_difference_of_loss']:.0e} (commit {results['commit'][:7]})."
    )


if __name__ == "__main__":
    write_page(PAGE, page())
