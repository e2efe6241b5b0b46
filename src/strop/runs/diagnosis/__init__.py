"""What is wrong with a training, told from what it logged: pure functions of `History`."""

from collections.abc import Callable, Iterator

from strop.runs.diagnosis import losses, resources, rewards
from strop.runs.diagnosis.finding import Finding
from strop.runs.diagnosis.history import History

Check = Callable[[History], Iterator[Finding]]

CHECKS: dict[str, tuple[Check, tuple[str, ...]]] = {
    "not_a_number": (losses.check_numbers, ()),
    "rewards_constant": (rewards.check_constant, ("not_a_number",)),
    "diverged": (losses.check_divergence, ("not_a_number",)),
    "no_gradient": (losses.check_gradient, ("not_a_number", "rewards_constant")),
    "rewards_collapsing": (rewards.check_collapse, ("not_a_number", "diverged")),
    "warmup_too_long": (losses.check_warmup, ("not_a_number", "diverged")),
    "flat_loss": (
        losses.check_flat,
        ("not_a_number", "diverged", "no_gradient", "dead_labels", "warmup_too_long"),
    ),
    "nothing_left_to_learn": (losses.check_solved, ("not_a_number", "dead_labels", "no_gradient")),
    "overfitting": (losses.check_overfitting, ("not_a_number", "diverged")),
    "loss_spikes": (losses.check_spikes, ("not_a_number", "diverged", "dead_labels")),
    "answers_cut_off": (rewards.check_cut_answers, ()),
    "answers_drifting": (rewards.check_drift, ("not_a_number",)),
    "memory_creeping": (resources.check_memory, ()),
    "disk_filling": (resources.check_disk, ()),
    "slowing": (resources.check_time, ()),
}
"""Checks in order, each with the faults that explain what it would name."""
KINDS = (*CHECKS, "dead_labels", "rate_too_small")
"""Faults that are named."""


def diagnose(history: History) -> list[Finding]:
    """Return the faults of a training, the first to show first; consequences of one are left out."""
    findings: dict[str, Finding] = {}
    for check, explained_by in CHECKS.values():
        if findings.keys().isdisjoint(explained_by):
            for finding in check(history):
                findings.setdefault(finding.kind, finding)
    return sorted(findings.values(), key=lambda finding: finding.step)
