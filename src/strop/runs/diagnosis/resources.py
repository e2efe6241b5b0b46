"""Faults of memory, disk and time."""

import itertools
import statistics
from collections.abc import Iterator

from strop.core.errors import spelt
from strop.core.progress import duration
from strop.core.system.disk import format_size
from strop.runs.diagnosis.finding import Finding
from strop.runs.diagnosis.history import History
from strop.runs.diagnosis.series import part, rises_throughout

ENOUGH = 20
"""Logged steps from which a trend is looked for."""
CREEPING = 0.05
"""Rise of the memory as a share of what it was, and at least `CREEPING_BYTES`."""
CREEPING_BYTES = 50e6
PLANNED_ERROR = 0.15
"""Of a planned peak, the most by which memory may pass it: freed blocks that do not fit, compiled
products."""
SLOWER = 3.0
"""Times as long as at first that a token takes when a run is called slowing."""
UNNOTICED = 0.05
"""Seconds of a step below which its time is not looked at."""


def check_memory(history: History) -> Iterator[Finding]:
    """Yield a finding if memory grew about equally in every part of the run, and past what is planned.

    Up to its peak memory grows in a healthy run: each batch larger than those before takes more, and in
    16 bits each new number of tokens has its products compiled.
    """
    points = history.points("memory")
    if len(points) < ENOUGH:
        return
    values = [value for _, value in points]
    rise = rises_throughout(values)
    if rise <= max(CREEPING * values[0], CREEPING_BYTES):
        return
    if values[-1] <= (1 + PLANNED_ERROR) * history.planned_memory:
        return
    a_step = rise / (0.8 * (points[-1][0] - points[0][0]))
    end = values[-1] + a_step * max(0, history.planned_steps - history.steps)
    yield Finding(
        "memory_creeping",
        points[len(points) // 5][0],
        f"memory grows by {format_size(a_step)} a step, to {format_size(values[-1])} so far"
        + (f" and about {format_size(end)} at the end" if end > values[-1] else ""),
        "something keeps a reference to each step's tensors: a list of losses with their graphs, a "
        "hook that collects outputs, a tracker",
        "collect numbers (loss.item()), not tensors; remove hooks and callbacks one by one, and "
        "resume from the last checkpoint when memory runs short",
    )


def check_disk(history: History) -> Iterator[Finding]:
    """Yield a finding if the disk will be full before the last step."""
    points = history.points("disk")
    if len(points) < ENOUGH:
        return
    free = [value for _, value in points]
    fall = rises_throughout([-value for value in free])
    a_step = fall / (0.8 * (points[-1][0] - points[0][0]))
    left = history.planned_steps - history.steps
    if a_step * left <= free[-1] or not fall:
        return
    full = points[-1][0] + int(free[-1] / a_step)
    yield Finding(
        "disk_filling",
        points[-1][0],
        f"{format_size(free[-1])} of the disk are left and each step takes {format_size(a_step)}: it "
        f"is full at about step {full:,} of {history.planned_steps:,}",
        "checkpoints, a tracker's files or another program fill it",
        f"save more rarely ({spelt('save_every')}), keep fewer checkpoints (--trainer save_total_limit=2), "
        "or make room; the run stops with a sentence and can be resumed",
    )


def check_time(history: History) -> Iterator[Finding]:
    """Yield a finding if a token takes several times as long as at first."""
    lines = [line for line in history.lines if "seconds" in line and "tokens" in line]
    paces = [
        (b["step"], (b["seconds"] - a["seconds"]) / (b["tokens"] - a["tokens"]))
        for a, b in itertools.pairwise(lines)
        if b["tokens"] > a["tokens"] and b["seconds"] >= a["seconds"]
    ]
    if len(paces) < ENOUGH:
        return
    values = [pace for _, pace in paces]
    first, last = statistics.median(part(values, 0, 0.5)), statistics.median(part(values, 0.75, 1))
    step_seconds = (lines[-1]["seconds"] - lines[0]["seconds"]) / max(1, len(lines) - 1)
    quick = min(part(values, 0.75, 1.0)) < SLOWER * first
    if quick or last < SLOWER * first or step_seconds < UNNOTICED:
        return
    since = next(step for step, pace in paces if pace >= SLOWER * first)
    yield Finding(
        "slowing",
        since,
        f"a thousand tokens take {duration(1e3 * last)} since about step {since:,}, "
        f"{last / first:.1f} times as long as before",
        "another program takes the processor, the machine throttles for heat, or memory is swapped "
        "to disk",
        "end other programs, look at temperature and swap; a lower micro_batch_tokens needs less "
        "memory",
    )
