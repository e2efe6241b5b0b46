"""How much an adapter can learn: its rank, its strength, the layers it is on, its dropout."""

import math

from strop.planning.problems.methods import IMITATING
from strop.planning.rules.choice import Choice, count
from strop.planning.rules.task import Task

FLOOR = 8
"""Least rank that the data may ask for."""
LARGEST = 256
SHARE = 0.1
"""Of the memory, the most that adapter, gradients and optimizer states may take."""
BYTES = 16
"""Of each weight of the adapter: itself, its gradient and AdamW's two states, in float32."""


def needed_rank(task: Task) -> int:
    """Return the least rank whose adapter has a weight for each bit that the data may teach.

        r = ceil(supervised tokens * 1 bit / (weights per rank * 1 bit))

    An answer teaches about a bit (0.69 nat) a token and a weight keeps up to two (Schulman et al.,
    LoRA Without Regret, 2025; Allen-Zhu and Li, 2024); Tinker's safer rule, taken here, is one
    weight a token. Epochs add nothing. A judgement of answers teaches a bit, whatever their length.
    """
    bits = task.supervised_tokens if task.method in IMITATING else task.rows
    return max(1, math.ceil(bits / max(1, task.rank_parameters)))


def rank(task: Task) -> Choice:
    """Return the rank: the next power of two above twice what the data needs, at least twice 8.

        r = 2^ceil(log2(2 max(needed, 8))), at most 256, and 16 r weights_per_rank <= memory / 10

    Losses of ranks above the need do not differ (LoRA Without Regret: less than 0.002 nat from rank
    4 to 64), so a rank too large costs little, and one too small cannot be made good.
    """
    needed = needed_rank(task)
    most = max(1, int(SHARE * task.memory / (BYTES * max(1, task.rank_parameters))))
    chosen = min(2 ** math.ceil(math.log2(2 * max(needed, FLOOR))), LARGEST)
    what = "supervised tokens" if task.method in IMITATING else "judged rows"
    amount = task.supervised_tokens if task.method in IMITATING else task.rows
    floor = f", {FLOOR} is the floor" if needed < FLOOR else ""
    reason = f"{count(amount)} {what} need at least {needed}{floor}, and twice that costs little"
    if chosen > most:
        chosen = 2 ** int(math.log2(most))
        reason += f"; a tenth of the memory holds no more than {most}"
    elif needed > LARGEST:
        reason = f"{count(amount)} {what} need {needed}, more than adapters of rank {LARGEST} learn"
    return Choice("rank", chosen, reason, "more supervised tokens, or a smaller model")


def alpha() -> Choice:
    """Return alpha: 32 whatever the rank.

        W + (alpha / r) B A

    With this scale the first step of Adam changes W alike for every rank, so that the best learning
    rate hardly depends on it (LoRA Without Regret, 2025). With alpha growing with the rank it does,
    and large ranks diverge.
    """
    return Choice(
        "alpha", 32, "with alpha / rank the learning rate suits every rank", "nothing in the data"
    )


def target_modules() -> Choice:
    """Return the layers that get an adapter: all linear ones.

    On attention alone rank 256 learns less than rank 128 on the MLPs with as many weights; MLPs and
    all layers are alike (LoRA Without Regret, 2025).
    """
    return Choice(
        "target_modules", "all-linear", "attention alone learns less", "nothing in the data"
    )


def dropout() -> Choice:
    """Return the dropout of the adapter: none.

    It is of little use in runs of few epochs (Unsloth's and TRL's guides leave it at 0), and rows
    could no longer share what they begin alike, which saves more than it gains. Epochs are bounded
    by the held-out loss instead.
    """
    return Choice(
        "dropout",
        0.0,
        "rows that begin alike are computed once, as with none",
        "nothing in the data",
    )
