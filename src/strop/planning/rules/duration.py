"""How long a run trains: epochs, rows of a step, and how often it is measured."""

import math

from strop.planning.problems.methods import IMITATING
from strop.planning.rules.choice import Choice
from strop.planning.rules.task import Task

EPOCHS = ((100, 5), (5_000, 3), (20_000, 2))
"""Rows below which a run takes so many epochs; above all of them it takes one."""
LONGER = (1_000, 4)
REPEATED_EPOCHS = (EPOCHS[0], LONGER, *EPOCHS[1:])
"""The same where answers repeat one another: below 1,000 rows one more."""
TEXT_EPOCHS = ((200, 4), (2_000, 2))
"""The same for blocks of whole texts."""
PAIR_EPOCHS = ((1_000, 2),)
PAIRS = ("dpo", "ipo", "reward")
USUAL = 16
"""Rows of a step of other methods, whose batches count something else."""
STEPS = 50
"""Steps that a run should have, or its batches are smaller."""
BATCHES = (4, 16)
LARGE, LARGE_STEPS = 32, 1000
"""Rows of a step in runs that have so many of them."""
EVALUATIONS = 4
"""Of a run of one epoch."""
TELLING, TELLING_PAIRS = 200, 20
"""Held-out tokens of answers, and held-out pairs, that tell one epoch from the next."""
PATIENCE = 2
"""Epochs without a better evaluation after which a run ends."""
LONG = 100
"""Steps from which a run of one epoch is evaluated before its end."""


def epochs(task: Task) -> Choice:
    """Return the passes over the data: 5 below 100 rows, 3 below 5,000, 2 below 20,000, else 1.

    Where answers repeat one another (labels, numbers, forms) 4 below 1,000 rows: of 150 records as JSON
    every rate of a grid was better in 4 epochs than in 2, of 150 instructions the two lower ones were.

    Grids of rates and passes over 150 rows of three kinds (docs/planning.md) were best where rate
    times steps is about 0.02: 3 passes in batches of 8 come near, 5 in batches of 4 are three times as
    much. 1,140 headlines of three classes: one epoch 73 % of 300 right, three 91 %, the same
    otherwise. Unsloth's guide says 1 to 3. Pairs teach less and are passed over twice below 1,000, else
    once. Texts repeated up to 4 times teach nearly as much as new ones (Muennighoff et al. 2023,
    arXiv:2305.16264): 4 below 200 blocks, 2 below 2,000.
    """
    imitated = REPEATED_EPOCHS if task.repeats else EPOCHS
    tables = dict.fromkeys(IMITATING, imitated) | dict.fromkeys(PAIRS, PAIR_EPOCHS)
    table = (tables | {"text": TEXT_EPOCHS}).get(task.method, ())
    bound, number = next(((b, n) for b, n in table if task.rows < b), (None, 1))
    what = "pairs" if task.method in PAIRS else "blocks" if task.method == "text" else "rows"
    reason = f"{task.rows:,} {what}" + (f", fewer than {bound:,}" if bound else ", which suffice")
    if task.repeats and (bound, number) == LONGER:
        reason += f"; {task.repeated:.0%} of the answers stand in others"
    passes = float(number)
    if passes > task.most_epochs:
        passes = math.floor(100 * task.most_epochs) / 100
        reason = f"more than {passes:g} take longer than {task.time}"
    return Choice("epochs", passes, reason, "more rows, or less time")


def batch_size(task: Task, passes: float) -> Choice:
    """Return the rows of an optimizer step, a power of two.

        B = 2^floor(log2(rows * epochs / 50)), from 4 to 16; 32 where that leaves 1,000 steps

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


def keep_best(task: Task, passes: float) -> Choice:
    """Return whether the adapter is of the best evaluation: where 200 held-out tokens or 20 pairs tell it.

    The held-out loss of few rows falls for one to four epochs and then rises; how soon, nobody knows
    before. Between two epochs the loss of a token changes by about 0.7 nat, so the mean of 200 is known
    to 0.05: 8 labels of three tokens told the second of five epochs the best, and the fifth was (73 %
    right, not 54 %). Rows that are passed over once are not learned by heart, and the last step is the
    best.
    """
    tokens = task.held_out * task.supervised_tokens // max(1, task.rows)
    telling = task.held_out >= TELLING_PAIRS if task.method in PAIRS else tokens >= TELLING
    value = passes > 1 and telling and task.method in (*IMITATING, *PAIRS)
    if value:
        reason = f"rows learned by heart are seen on the {task.held_out:,} held-out rows"
    elif not task.held_out:
        reason = "no rows are held out"
    elif passes <= 1:
        reason = "rows that are seen once are not learned by heart"
    elif not telling:
        few = (
            f"{task.held_out:,} pairs"
            if task.method in PAIRS
            else f"about {tokens:,} tokens of answers"
        )
        reason = f"{few} held out do not tell the best"
    else:
        reason = f"the loss of {task.method} does not tell the best"
    return Choice("load_best_model_at_end", value, reason, "held_out, more epochs")


def patience(stops: bool, *, every: int | None, per_epoch: int) -> Choice:
    """Return the evaluations of two epochs, after which a run without a better one stops.

    One worse evaluation is no evidence: while the rate is high the loss of few rows goes up and down, and
    it falls once more as the rate does. Of 150 records as JSON, stopped after one at 8e-4 and 1e-3, the
    test loss was 0.31 and 0.29; 4 epochs at 1e-3 that went on ended at 0.23. A run whose length, or whose
    keeping of the best, was set by hand goes on to its end.
    """
    evaluations = PATIENCE * max(1, math.ceil(per_epoch / (every or per_epoch)))
    value = evaluations if stops else None
    reason = (
        f"those of {PATIENCE} epochs; the best is kept"
        if stops
        else "nothing tells that it should end"
    )
    return Choice("early_stopping_patience", value, reason, "a number of evaluations")
