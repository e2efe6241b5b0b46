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
decides where both are equal. Where something differs by more, the micro-batch is computed both ways
with everything in float64; what agrees there to {exact:.0e} differed by rounding (norms and
log-probabilities are computed in float32 by both even then). A test that fails is run plainly,
too.

{versions}; tests of TRL {checkout}. `benchmarks/trl_tests.py` makes the numbers, `make pages` this
page.
"""
FAIL_EITHER_WAY = """
What fails plainly too asks for what this version of TRL no longer has, for names or numbers of
tokens of the true vocabularies, for more steps than four, or for Liger; or changes the biases of
bitsandbytes layers on a CPU. Skipped are tests with images, on an accelerator, or with Liger;
those marked slow did not run.
"""
COLUMNS = ["trainer", "tests", "ran", "skipped", "pass", "fail plainly too"]
COLUMNS += ["fail accelerated only", "train", "micro-batches", "agree", "differ by rounding"]
COLUMNS += ["differ"]


def table(modules: dict[str, Any]) -> str:
    """Return the counts of each module, and their sums."""
    rows = [[name.upper(), *counts(of)] for name, of in modules.items()]
    rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    return rows_of([COLUMNS, *([str(cell) for cell in row] for row in rows)])


def counts(of: dict[str, Any]) -> list[int]:
    """Return the numbers of a module in the order of the columns."""
    names = ("collected", "ran", "skipped", "passed")
    rounded = sum(found["rounding"] for found in of["differ"].values())
    failed = [len(of["failed_plain_too"]), len(of["failed_accelerated_only"])]
    trained = [of["trained"], of["micro_batches"], of["agree"], rounded]
    return [*(of[n] for n in names), *failed, *trained, len(of["differ"]) - rounded]


def differences(modules: dict[str, Any]) -> str:
    """Return each test that fails accelerated only, or differs, with its numbers."""
    lines = []
    for of in modules.values():
        for test, why in of["failed_accelerated_only"].items():
            lines.append(f"* `{test}` fails accelerated only: {why.splitlines()[-1][:160]}")
        for test, found in of["differ"].items():
            far = found["gradient_from_float64"]
            lines.append(
                f"* `{test}`: {numbers(found['errors'])}; in float64 {numbers(found['float64'])}; "
                f"the gradient is {far['strop']:.1e} from that of float64, TRL's {far['trl']:.1e}"
            )
    return "\n".join(lines) if lines else "No test differs."


def numbers(errors: dict[str, float]) -> str:
    """Return errors by name as text."""
    return ", ".join(f"{name} {error:.1e}" for name, error in errors.items())


def page() -> str:
    """Return the page."""
    found = read("cpu/trl_tests.json")
    if not found:
        return HEAD + "No results yet.\n"
    names = ("trl", "transformers", "peft", "torch")
    how = HOW.format(
        rounding=found["rounding"],
        exact=found["exact"],
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
        [
            HEAD + how,
            table(found["modules"]),
            FAIL_EITHER_WAY + built + rest,
            differences(found["modules"]),
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
