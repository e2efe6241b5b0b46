"""Verdict on the rewards of an export: its faults, or the sentence of one that passes."""

from strop.exporting.certify.findings import Findings
from strop.exporting.certify.rewards.limits import RewardThresholds
from strop.metrics.rewards import RewardAgreement
from strop.metrics.significance import SURE


def judged_rewards(findings: Findings, allowed: RewardThresholds | None) -> tuple[str, ...]:
    """Return the faults of an export: those seen on the way, then what exceeds a threshold.

    Rewards that differ among themselves by no more than the rounding cannot show that an export is
    right: one that rewards all alike would pass.

    Args:
        findings: of the process that opened it.
        allowed: differences; None where no reward could be compared.
    """
    faults = list(findings.faults)
    rewards = findings.rewards
    if rewards is None or allowed is None:
        return tuple(faults or [findings.unmeasured])
    if not rewards.mean <= allowed.mean:  # a NaN is not below either
        faults.append(
            f"its rewards differ from the trained model's by {rewards.mean:.2g} on average; "
            f"{allowed.mean:.2g} is allowed in its number format; {_AGAIN}"
        )
    if not rewards.largest <= allowed.largest:
        faults.append(
            f"its reward of a conversation differs from the trained model's by {rewards.largest:.2g}; "
            f"{allowed.largest:.2g} is allowed in its number format; {_AGAIN}"
        )
    clear = [margin for margin in rewards.flips if margin > allowed.gap]
    if len(clear) > (1 - SURE) * rewards.pairs:
        faults.append(
            f"it turns the order of {len(clear)} of {rewards.pairs} pairs whose rewards lie further "
            f"apart than a near tie ({allowed.gap:.2g}), up to {max(clear):.2g}; {_AGAIN}"
        )
    if not rewards.spread > allowed.mean:
        faults.append(
            f"the trained model's rewards spread by {rewards.spread:.2g} on these conversations, no "
            f"more than the rounding of its number format ({allowed.mean:.2g}), so that they show "
            "nothing; compare on answers that differ more (--data FILE), or export --to merged "
            "--dtype float32"
        )
    return tuple(faults)


_AGAIN = "export it again, or --to merged --dtype float32"


def sentence_of(rewards: RewardAgreement, allowed: RewardThresholds) -> str:
    """Return by how much the rewards of an export that passed differ, within which limits."""
    alike = f"{rewards.same_order} of {rewards.pairs} pairs in the same order"
    if rewards.flips and max(rewards.flips) <= allowed.gap:
        alike += " and the others near ties"
    return (
        f"(rewards differ by {rewards.mean:.1e} ≤ {allowed.mean:.1e} on average and by "
        f"{rewards.largest:.1e} ≤ {allowed.largest:.1e} at most, beside a spread of "
        f"{rewards.spread:.2g}) on {rewards.conversations} conversations: {alike}"
    )
