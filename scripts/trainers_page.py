"""Write docs/trainers.md from a results file, so that no number in it is made by hand."""

import collections
from pathlib import Path
from typing import Any

from results import read, rows_of
from wrap import write_page

MODULES = ("sft", "dpo", "kto", "grpo", "rloo", "reward")
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

RewardTrainer, ORPO and CPO ask their models for no log-probabilities and are refused, before
anything in them is changed.

## TRL's own tests

"""
HOW = """\
Each test of TRL's trainer modules runs once plain and once accelerated: there each trainer's `train`
calls `strop.accelerate` first. Trainers train at most four steps, on a CPU, on the tiny random models
and data that TRL's own scripts make; paragraphs of TRL's pages stand for two data sets of a hub that
slow tests train on. 16-bit autocast is off, and what TRL marks for accelerators runs on the CPU.

Every micro-batch of the accelerated run is computed twice on the same weights, inputs and random
state, by TRL's forward and by strop's: the loss, the gradient of all trained tensors as a whole and
every metric must agree to {rounding:.0e}, the gradient relative to its norm, the others to
max(1, |x|). Metrics that count which of two numbers is larger are left out: rounding decides where
both are equal. Dropout draws other masks for rows without padding, so it drops nothing while both
are compared. Where something differs by more, the micro-batch is computed both ways with everything
in float64; what agrees there to {exact:.0e} differed by rounding (norms, log-probabilities and 4-bit
layers are computed in float32 by both even then).

{versions}; strop's code by digest {code}; tests of TRL
{checkout}. `benchmarks/trl_tests.py` makes the numbers, `make pages` this
page; with Pillow, torchvision and jmespath installed the tests with images and tools run, too.
"""
FAIL_EITHER_WAY = """
What fails both ways asks for what this version of TRL no longer has, for names or numbers of tokens
of the true vocabularies, for Gemma 4 and other models that are not built here, for more steps than
four, or for an accelerator; or changes the biases of bitsandbytes layers on a CPU. This version of
TRL has no trainer of process reward models.
"""
COLUMNS = {
    "tests": "collected",
    "marked slow": "slow",
    "skipped": "skipped",
    "pass plainly": "passed_plain",
    "pass accelerated": "passed",
    "fail both ways": "failed_plain_too",
    "fail accelerated only": "failed_accelerated_only",
    "fail plainly only": "failed_plain_only",
    "train": "trained",
    "micro-batches": "micro_batches",
    "agree": "agree",
    "differ by rounding": "rounding",
    "differ": "beyond_rounding",
}
"""Heads of the table, and the counts in the results."""


def table(modules: dict[str, Any]) -> str:
    """Return the counts of each module, and their sums."""
    rows = [[name.upper(), *counts(of)] for name, of in modules.items()]
    rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    return rows_of([["trainer", *COLUMNS], *([str(cell) for cell in row] for row in rows)])


def counts(of: dict[str, Any]) -> list[int]:
    """Return the numbers of a module in the order of the columns."""
    rounding = sum(errors["rounding"] for errors in of["differ"].values())
    of = of | {"rounding": rounding, "beyond_rounding": len(of["differ"]) - rounding}
    values = [of[name] for name in COLUMNS.values()]
    return [value if isinstance(value, int) else len(value) for value in values]


def skips(modules: dict[str, Any]) -> str:
    """Return the reasons why tests did not run, and how many of them are marked slow."""
    every, slow = (
        sum((collections.Counter(of[name]) for of in modules.values()), collections.Counter())
        for name in ("skipped_for", "slow_skipped_for")
    )
    rows = [[why, str(n), str(slow[why])] for why, n in every.most_common()]
    return rows_of([["skipped, as TRL says it", "tests", "marked slow"], *rows])


def slow(modules: dict[str, Any]) -> str:
    """Return the outcomes of tests that TRL marks slow."""
    outcomes: collections.Counter[str] = collections.Counter()
    for of in modules.values():
        outcomes.update(of["slow_outcomes"])
    passed, failed, skipped = (outcomes[name] for name in ("passed", "failed", "skipped"))
    return (
        f"\nOf the {outcomes.total()} tests that TRL marks slow {passed} pass accelerated, {failed} fail, "
        f"{skipped} are skipped."
    )


def refused(modules: dict[str, Any]) -> str:
    """Return the sentence about trainers that strop refuses."""
    lines = [
        f"{name.upper()}: in {n} tests the trainer is refused, found unchanged after it, and trains "
        f"plainly: {why}."
        for name, of in modules.items()
        for why, n in of["refused"].items()
    ]
    return "\n".join(f"\n{line}" for line in lines)


def differences(modules: dict[str, Any]) -> str:
    """Return each test that fails accelerated only, or differs, with its numbers."""
    lines = []
    for of in modules.values():
        for test, why in of["failed_accelerated_only"].items():
            lines.append(f"* `{test}` fails accelerated only: {why[:160]}")
        for test, runs in by_test(of["differ"]).items():
            far = worst([run["gradient_from_float64"] for run in runs])
            times = f" with {len(runs)} sets of parameters" if len(runs) > 1 else ""
            lines.append(
                f"* `{test}`{times}: {numbers(worst([run['errors'] for run in runs]))}; "
                f"in float64 {numbers(worst([run['float64'] for run in runs]))}; "
                f"the gradient is {far['strop']:.1e} from that of float64, TRL's {far['trl']:.1e}"
            )
    runs = [run for of in modules.values() for run in of["differ"].values()]
    total, nearer = (sum(run[name] for run in runs) for name in ("micro_batches", "strop_nearer"))
    if runs:
        lines.append(
            f"\nOf these {total} micro-batches strop's gradient is nearer to that of float64 "
            f"in {nearer}, TRL's in {total - nearer}."
        )
    return "\n".join(lines) if lines else "No test differs."


def by_test(differ: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the errors of each test, whatever its parameters."""
    tests: dict[str, list[dict[str, Any]]] = {}
    for test, run in differ.items():
        tests.setdefault(test.partition("[")[0], []).append(run)
    return tests


def worst(errors: list[dict[str, float]]) -> dict[str, float]:
    """Return the largest errors by name."""
    names = dict.fromkeys(name for each in errors for name in each)
    return {name: max(each[name] for each in errors if name in each) for name in names}


def numbers(errors: dict[str, float]) -> str:
    """Return errors by name as text."""
    return ", ".join(f"{name} {error:.1e}" for name, error in errors.items())


def page() -> str:
    """Return the page."""
    results = read("cpu/trl_tests.json")
    if not results:
        return HEAD + "No results yet.\n"
    modules, versions = results["modules"], results["versions"]
    names = ("trl", "transformers", "peft", "torch")
    how = HOW.format(
        rounding=results["rounding"],
        exact=results["exact"],
        versions=", ".join(f"{n} {versions[n]}" for n in names if n in versions),
        checkout=results["trl_checkout"],
        code=results["code"],
    )
    parts = [how, table(modules), FAIL_EITHER_WAY, skips(modules), slow(modules), refused(modules)]
    if results["not_built"]:
        missing = ", ".join(f"`{name}`" for name in results["not_built"])
        parts.append(f"\nNot built, so that their tests fail both ways: {missing}.")
    for name in MODULES:
        of = modules.get(name, {"collected": 0, "ran": 0, "ran_plain": 0})
        for way, ran in (("accelerated", of["ran"]), ("plainly", of["ran_plain"])):
            if not of["collected"] or ran < of["collected"]:
                parts.append(f"\n{name.upper()}: {of['collected'] - ran} tests did not run {way}.")
    return HEAD + "\n".join([*parts, "", differences(modules), ""])


if __name__ == "__main__":
    write_page(PAGE, page())
