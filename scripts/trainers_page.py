"""Write docs/trainers.md from a results file, so that no number in it is made by hand."""

from pathlib import Path
from typing import Any

from results import read, rows_of

MODULES = ("dpo", "kto", "rloo", "sft", "grpo")
PAGE = Path(__file__).parent.parent / "docs" / "trainers.md"
HEAD = """# TRL's trainers, accelerated

`strop.accelerate(trainer)` leaves a trainer's losses, metrics and files its own. Where something is
not known to be the plain case, TRL's own forward runs, before anything else did, and a line says
why:

* a hook, a forward bound anew, a subclass or a compiled part in the model, by code of another
  package than torch, transformers, PEFT or TRL; hooks for every module;
* PEFT's methods that may mix or draw over a batch (Lily, PVeRA, aLoRA, X-LoRA and what is new), and
  what is drawn once for a batch (layer dropout, dropout of adapters' weights);
* dropout of attention weights, under whichever name; NEFTune; a router loss; embeddings in place of
  tokens;
* rotary frequencies that follow the longest row of a batch (dynamic, longrope), where a batch is
  long enough.

Rows change places between the micro-batches of a step only where the loss is one sum over the
step's tokens: TRL's own `compute_loss` of `SFTTrainer` with `num_items_in_batch` passed, no router
loss, the same number of tokens on all processes. The gradient of the step is the same then.
`mean_token_accuracy` and `entropy` are means over micro-batches in TRL, and `num_input_tokens_seen`
counts padding: they depend on which rows come together, so they may differ from a plain run's where
rows changed places.

RewardTrainer, ORPO and CPO ask their models for no log-probabilities and are refused.

## TRL's own tests

"""
HOW = """\
Each trainer's `train` calls `strop.accelerate` first, at most four steps, on the tiny random models
and data that TRL's own scripts make. Every micro-batch is computed twice on the same weights,
inputs and random state, by TRL's forward and by strop's: the loss, the gradient of all trained
tensors as a whole and every metric must agree to {rounding:.0e}, the gradient relative to its norm,
the others to max(1, |x|). Metrics that count which of two numbers is larger are left out: rounding
decides where both are equal. A test that fails is run plainly, too.

{versions}; tests of TRL {checkout}. `benchmarks/trl_tests.py` makes the numbers, `make pages` this
page.
"""


def table(modules: dict[str, Any]) -> str:
    """Return the counts of each module."""
    cells = [
        ["trainer", "tests", "ran", "skipped", "pass", "fail plainly too", "fail accelerated only"]
    ]
    cells[0] += ["of those that train: micro-batches", "agree", "differ"]
    for name, of in modules.items():
        names = ("collected", "ran", "skipped", "passed", "failed_plain_too")
        numbers = [of[n] for n in names] + [len(of["failed_accelerated_only"]), of["micro_batches"]]
        numbers += [of["agree"], len(of["differ"])]
        cells.append([name.upper(), *map(str, numbers)])
    return rows_of(cells)


def differences(modules: dict[str, Any]) -> str:
    """Return each test that fails accelerated only, or differs, with its numbers."""
    lines = []
    for of in modules.values():
        for test, why in of["failed_accelerated_only"].items():
            lines.append(f"* `{test}` fails accelerated only: {why.splitlines()[-1][:160]}")
        for test, errors in of["differ"].items():
            numbers = ", ".join(f"{n} {e:.1e}" for n, e in errors.items())
            lines.append(f"* `{test}`: {numbers}")
    return "\n".join(lines) if lines else "No test differs."


def page() -> str:
    """Return the page."""
    found = read("cpu/trl_tests.json")
    if not found:
        return HEAD + "No results yet.\n"
    names = ("trl", "transformers", "peft", "torch")
    how = HOW.format(
        rounding=found["rounding"],
        versions=", ".join(f"{n} {found['versions'][n]}" for n in names if n in found["versions"]),
        checkout=found["trl_checkout"],
    )
    missing = ", ".join(f"`{name}`" for name in found["not_built"])
    built = f"\nNot built, so that their tests fail either way: {missing}.\n" if missing else ""
    modules = found["modules"]
    part = [n.upper() for n, of in modules.items() if of["ran"] < of["collected"]]
    none = [n.upper() for n in MODULES if n not in modules]
    rest = f"\nOnly some of the tests ran of {', '.join(part)}.\n" if part else ""
    rest += f"\nNot run: {', '.join(none)}.\n" if none else ""
    return "\n".join(
        [HEAD + how, table(found["modules"]), built + rest, differences(found["modules"]), ""]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
