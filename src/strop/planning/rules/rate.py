"""How far a step goes: the learning rate, its warm-up and its schedule."""

import math

from strop.planning.problems.methods import IMITATING
from strop.planning.rules.choice import Choice
from strop.planning.rules.task import Task

FULL, MULTIPLIER, WIDTH = 5e-5, 10, 2000
"""Of full fine-tuning at width 2000, and the factor from it to LoRA (tinker-cookbook)."""
POWERS = {"llama": 0.781, "qwen": 0.0775}
"""Of the width, by the beginning of the family's name."""
UNKNOWN = 0.4
"""For families that nobody measured: between the two."""
BATCH = 128
"""Rows of a step at which these numbers were measured."""
ALPHA = 32
SHORT, SHORT_FACTOR, REPEATED_FACTOR = 75, 1.5, 3.0
"""Steps up to which B, which starts at 0, has no time to grow, and what makes good for it: in free text,
and at most where answers repeat one another."""
MOST = 2e-3
PREFERENCES = ("dpo", "ipo", "kto", "orpo", "simpo")
MANY, MOST_PREFERENCES = 400, 3e-4
"""Steps from which on the usual rates of preferences hold, and the highest in fewer."""
WARMUP, MOST_WARMUP = 0.06, 100
"""Share of all steps, and steps, in which the rate rises."""


def width_power(family: str) -> float | None:
    """Return the power of the width by which the best rate falls; None for a family not measured."""
    return next((power for name, power in POWERS.items() if family.startswith(name)), None)


def learning_rate(task: Task, *, batch_size: int, steps: int, alpha: float) -> Choice:
    """Return the highest learning rate of the adapter.

        10 * 5e-5 * (2000 / width)^p * sqrt(batch / 128) * 32 / alpha,   p = 0.781 Llama, 0.0775 Qwen

    times a factor in runs up to 75 steps, in longer ones less, and 1 from 75 times as many on: 1.5 in free
    text; sqrt(tokens of an answer), from 1 to 3, where answers repeat one another. The first three factors
    are Tinker's `get_lr`, fitted to 14 Llama and Qwen models (LoRA Without Regret, 2025); noise of a batch
    makes Adam's best rate grow by its square root (McCandlish et al. 2018), at most to that of 128 rows and
    at least to that of 8. An alpha other than 32 multiplies the update as the rate does (muA), so the rate
    is divided by as much.

    Of 150 rows (benchmarks/contest.py), free text was learned best where rate times steps was about 0.02,
    records as JSON of 19 tokens at 0.07 and more: a test loss of 0.232 in 4 epochs at 1e-3, 0.264 in 5 at
    5e-4; numbers of 3 tokens at 6e-4: 1.75 in 4 epochs, 1.82 at 2.5e-4 and 1.84 at 1.5e-3. Labels of one
    token make the noisiest batches: 0.33 in 4 epochs at 3.3e-4, 0.35 at 5e-4 and 0.38 at 1e-3.
    """
    power = width_power(task.family)
    base = MULTIPLIER * FULL * (WIDTH / task.hidden_size) ** (UNKNOWN if power is None else power)
    rate = base * math.sqrt(min(1.0, max(batch_size, 8) / BATCH)) * ALPHA / alpha
    reason = (
        f"{base:.2g} for a {task.family} {task.hidden_size:,} wide in batches of {BATCH}, "
        f"by the root of the batch"
    )
    if power is None:
        reason += "; this family is not calibrated"
    tokens = max(1.0, task.supervised_tokens / max(1, task.rows) - 1)  # but the end of each answer
    most = min(REPEATED_FACTOR, math.sqrt(tokens)) if task.repeats else SHORT_FACTOR
    factor = min(most, most * SHORT / max(1, steps))
    if factor > 1:
        rate *= factor
        reason += f"; times {factor:.2g} in {steps:,} steps"
        if task.repeats:
            reason += f", as answers of {tokens:.2g} tokens repeat one another"
    if alpha != ALPHA:
        reason += f"; times {ALPHA}/{alpha:g} for alpha {alpha:g}"
    if rate > MOST:
        rate, reason = MOST, f"{reason}; at most {MOST:g}"
    return Choice("learning_rate", float(f"{rate:.2g}"), reason, "another width, batch or family")


def full_learning_rate(task: Task, usual: float, *, batch_size: int) -> Choice:
    """Return the highest learning rate where all weights are trained: a tenth of an adapter's.

        5e-5 * (2000 / width)^p * sqrt(batch / 128),   p as in `learning_rate`

    The best rate of LoRA was ten times that of full training for every model of 14, whatever the rank
    and the task (LoRA Without Regret, Schulman et al. 2025); full training's needs no time for B to
    grow and has no alpha. Of a method that does not imitate it is a tenth of its `usual` one.
    """
    if task.method not in IMITATING:
        tenth = float(f"{usual / MULTIPLIER:.2g}")
        reason = f"a tenth of what is usual for an adapter by {task.method}"
        return Choice("learning_rate", tenth, reason, "another method")
    power = width_power(task.family)
    base = FULL * (WIDTH / task.hidden_size) ** (UNKNOWN if power is None else power)
    rate = base * math.sqrt(min(1.0, max(batch_size, 8) / BATCH))
    reason = (
        f"a tenth of an adapter's: {base:.2g} for a {task.family} {task.hidden_size:,} wide in batches "
        f"of {BATCH}, by the root of the batch"
    )
    return Choice("learning_rate", float(f"{rate:.2g}"), reason, "another width, batch or family")


def method_rate(usual: float, method: str, *, steps: int, alpha: float) -> Choice:
    """Return the rate of a method that does not imitate: its usual one, times 32 / alpha.

        usual * 400 / steps,   at most 3e-4, in runs on preferences of less than 400 steps

    The usual one is ten times that of its full training, as adapters need (LoRA Without Regret, 2025),
    in runs of hundreds of steps. What an adapter learns grows with the sum of its rates: DPO in 38 steps
    on 150 answers and the same with their halves swapped ended at a loss on other pairs of 0.66, 0.57,
    0.25 and 0.03 with 1e-5, 3e-5, 1e-4 and 3e-4; in 12 steps on 43 pairs of benchmarks/contest.py at 0.70,
    0.69 and 0.65 with 2e-5, 8e-5 and 3e-4.
    """
    rate, reason = usual, f"usual for {method}"
    short = min(MOST_PREFERENCES, usual * MANY / max(1, steps))
    if method in PREFERENCES and short > usual:
        rate, reason = (
            short,
            f"{usual:g} is usual for {method} in {MANY} steps and more; here {steps:,}",
        )
    if alpha != ALPHA:
        reason += f"; times {ALPHA}/{alpha:g} for alpha {alpha:g}"
    return Choice(
        "learning_rate", float(f"{rate * ALPHA / alpha:.2g}"), reason, "another method, more steps"
    )


def warmup(steps: int) -> Choice:
    """Return the share of the steps in which the rate rises: 6 %, at most 100 steps.

    Adam's second moment is a mean of about 1 / (1 - 0.999) steps; until it has settled, full steps
    are too long. Guides say 3 to 10 % (Unsloth, TRL).
    """
    share = min(WARMUP, MOST_WARMUP / max(1, steps))
    first = math.ceil(share * steps)
    return Choice("warmup", float(f"{share:.2g}"), f"{first:,} of {steps:,} steps", "more steps")


def schedule() -> Choice:
    """Return the schedule: linear to 0, as Tinker and TRL have it."""
    return Choice(
        "schedule",
        "linear",
        "the last steps average out the noise of a batch",
        "nothing in the data",
    )
