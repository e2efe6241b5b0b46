"""How long a run trains: epochs, rows of a step, and how often it is measured."""

import math

from strop.planning.problems.methods import IMITATING
from strop.planning.rules.choice import Choice
from strop.planning.rules.task import Task

EPOCHS = ((200, 5), (5_000, 3), (20_000, 2))
"""Rows below which a run takes so many epochs; above all of them it takes one."""
TEXT_EPOCHS = ((200, 4), (2_000, 2))
"""The same for blocks of whole texts."""
PAIR_EPOCHS = ((1_000, 2),)
PAIRS = ("dpo", "ipo", "reward")
USUAL = 16
"""Rows of a step of other methods, whose batches count something else."""
STEPS = 200
"""Steps that a run should have, or its batches are smaller."""
BATCHES = (4, 16)
LARGE, LARGE_STEPS = 32, 1000
"""Rows of a step in runs that have so many of them."""
EVALUATIONS = 4
"""Of a run of one epoch."""
LONG = 100
"""Steps from which a run of one epoch is evaluated before its end."""


def epochs(task: Task) -> Choice:
    """Return the passes over the data: 5 below 200 rows, 3 below 5,000, 2 below 20,000, else 1.

    1,140 headlines of three classes: one epoch 73 % of 300 right, three 91 %, the same otherwise.
    Unsloth's guide says 1 to 3. Pairs teach less and are passed over twice below 1,000, else once.
    Texts repeated up to 4 times teach nearly as much as new ones (Muennighoff et al. 2023,
    arXiv:2305.16264): 4 below 200 blocks, 2 below 2,000.
    """
    tables = dict.fromkeys(IMITATING, EPOCHS) | dict.fromkeys(PAIRS, PAIR_EPOCHS)
    table = (tables | {"text": TEXT_EPOCHS}).get(task.method, ())
    bound, number = next(((b, n) for b, n in table if task.rows < b), (None, 1))
    what = "pairs" if task.method in PAIRS else "blocks" if task.method == "text" else "rows"
    reason = f"{task.rows:,} {what}" + (f", fewer than {bound:,}" if bound else ", which suffice")
    passes = float(number)
    if passes > task.most_epochs:
        passes = math.floor(100 * task.most_epochs) / 100
        reason = f"more than {passes:g} take longer than {task.time}"
    return Choice("epochs", passes, reason, "more rows, or less time")


def batch_size(task: Task, passes: float) -> Choice:
    """Return the rows of an optimizer step, a power of two.

        B = 2^floor(log2(rows * epochs / 200)), from 4 to 16; 32 where that leaves 1,000 steps

    Adapters lose by large batches more than full training does, whatever their rank (LoRA Without
    Regret, 2025), so there are first enough steps and then larger batches. Memory does not matter:
    a step is computed in parts.
    """
    low, high = BATCHES
    if task.method not in (*IMITATING, *PAIRS):
        return Choice("batch_size", USUAL, f"usual for {task.method}", "another method")
    if task.max_steps is not None:
        return Choice("batch_size", high, "steps are set by hand", "more rows")
    total = task.rows * passes
    fitting = 2 ** int(math.log2(max(1.0, total / STEPS)))
    chosen = max(low, min(high, fitting))
    if total / LARGE >= LARGE_STEPS:
        chosen = LARGE
    steps = math.ceil(total / chosen)
    few = f"; at least {STEPS} are good" if chosen < high else ""
    return Choice("batch_size", chosen, f"leaves {steps:,} steps{few}", "more rows or epochs")


def evaluation_interval(task: Task, *, steps: int, per_epoch: int) -> Choice:
    """Return the steps between losses on the held-out rows; None is after every epoch.

    A run of one epoch of 100 steps or more is measured four times, so that its curve is seen.
    """
    changed_by = "more epochs or held-out rows"
    if not task.held_out:
        return Choice("eval_every", None, "no rows are held out", changed_by)
    if steps <= per_epoch and steps >= LONG:
        every = math.ceil(steps / EVALUATIONS)
        return Choice("eval_every", every, f"{EVALUATIONS} times in one epoch", changed_by)
    return Choice("eval_every", None, "after every epoch", changed_by)
