"""Faults that losses, gradients and learning rates show."""

import itertools
import math
import statistics
from collections.abc import Iterator

from strop.core.errors import spelt
from strop.runs.diagnosis.finding import Finding
from strop.runs.diagnosis.history import History
from strop.runs.diagnosis.series import noise, part
from strop.runs.outcome import WORSE, outcome

ENOUGH = 20
"""Logged losses from which a trend is looked for."""
FLAT = 0.02
"""Share of the loss within which a curve counts as flat, if noise cannot hide more."""
FLAT_EVALUATION = 0.003
"""The same for the loss on held-out rows, which are equal at every evaluation."""
SMALL_RATE = 2e-5
"""Learning rate below which an adapter hardly moves; those that suit it are 10 to 100 times as high
(LoRA Without Regret, Schulman et al. 2025)."""
SOLVED = 0.02
"""Loss in nats a token from which nothing is left to learn: probability 0.98."""
OVERFITTED = 0.05
"""Rise of the held-out loss over its lowest, as a share of it and at least in nats."""


def check_numbers(history: History) -> Iterator[Finding]:
    """Yield a finding if losses or gradients are no numbers.

    transformers logs 0 or a mean of earlier losses in place of NaN; the gradient's norm shows it.
    """
    trained = [line for line in history.lines if line.get("loss") is not None]
    bad = [line for line in trained if not _is_number(line["loss"])]
    gradients = [line for line in trained if line.get("grad_norm") is not None]
    odd = [line for line in gradients if not _is_number(line["grad_norm"])]
    # A scaler of float16 skips single steps whose gradient overflows; that is no fault.
    if not bad and not (odd and all(line in odd for line in gradients[-3:])):
        return
    first = min((line["step"] for line in (*bad, *odd)), default=0)
    what = "the loss" if bad else "the gradient"
    value = bad[0]["loss"] if bad else odd[-1]["grad_norm"]
    evidence = f"{what} is {value} at step {(bad or odd)[0]['step']:,}"
    at_once = first <= trained[0]["step"]
    cause = (
        "there is no number even before the first update: weights or inputs hold inf or nan, every "
        "label is masked, or float16 overflows"
        if at_once
        else "an update was too large and the weights overflowed"
    )
    cure = (
        f"check that answers are within {spelt('max_length')} and not masked, load the weights "
        f"again, or compute in another format: {spelt('dtype', 'float32')}"
        if at_once
        else _lower_rate(history, 10)
    )
    yield Finding("not_a_number", first, evidence, cause, cure)


def check_divergence(history: History) -> Iterator[Finding]:
    """Yield a finding if the loss ended clearly above its first values."""
    points = history.points("loss")
    rate = max(history.values("learning_rate"), default=0.0)
    ends = outcome(history.lines, {"settings": {"learning_rate": rate}})
    cause = "the updates are too large: each step overshoots"
    if ends.diverged and history.share_done == 1 and not history.keeps_best:
        evidence = ends.diverged.partition("; ")[0].removeprefix("the run diverged, ")
        yield Finding("diverged", history.steps, evidence, cause, _lower_rate(history, 10))
        return
    if len(points) < 6 or history.has_rewards:
        return
    values = [value for _, value in points]
    begin, end = values[: max(3, len(values) // 10)], values[-max(3, len(values) // 10) :]
    first, last = statistics.median(begin), statistics.median(end)
    if last - first > max(2 * WORSE * max(1.0, first), 3 * noise(values)):
        since = next(step for step, value in points if value > first + (last - first) / 2)
        evidence = f"the loss rose from {first:.3f} to {last:.3f}"
        yield Finding("diverged", since, evidence, cause, _lower_rate(history, 10))


def check_gradient(history: History) -> Iterator[Finding]:
    """Yield a finding if no gradient reaches the adapter, or there is no loss to have one."""
    trained = [line for line in history.lines if line.get("loss") is not None]
    norms = [line["grad_norm"] for line in trained if line.get("grad_norm") is not None]
    if len(trained) < 3 or not norms or any(norms):
        return
    if not any(line["loss"] for line in trained):
        yield Finding(
            "dead_labels",
            trained[0]["step"],
            "the loss is exactly 0 at every step",
            "no token carries a label: answers are masked, or cut off behind a long prompt",
            f"look at what is learned (strop data preview DATA), raise {spelt('max_length')}, or mend "
            "the template's mark of the assistant's turns",
        )
        return
    yield Finding(
        "no_gradient",
        trained[0]["step"],
        f"the gradient is exactly 0 at every step, the loss stays about {trained[-1]['loss']:.3f}",
        "what is trained does not reach the loss: the adapter is frozen, both its factors are 0, or "
        "it sits on layers that are not used",
        f"choose layers of the model's blocks ({spelt('target_modules', 'all-linear')}), start the "
        "adapter anew (A at random, B at 0), and let its parameters require gradients",
    )


def check_warmup(history: History) -> Iterator[Finding]:
    """Yield a finding if the learning rate still rises when half of the run is over."""
    rates = history.points("learning_rate")
    if len(rates) < 6 or history.share_done < 0.5 or not history.planned_steps:
        return
    values = [rate for _, rate in rates]
    rising = all(b > a for a, b in itertools.pairwise(values))
    if rising:
        yield Finding(
            "warmup_too_long",
            rates[-1][0],
            f"the learning rate still rises at step {rates[-1][0]:,} of {history.planned_steps:,}: "
            f"{values[-1]:.2g}",
            "the warm-up is longer than half of the run, so most steps hardly learn",
            f"warm up for a twentieth of the steps: {spelt('warmup', 0.05)}",
        )


def check_flat(history: History) -> Iterator[Finding]:
    """Yield a finding if the loss did not fall, and noise cannot hide that it did.

    A curve counts as flat if the upper end of an interval of its fall, two standard errors, lies
    below `FLAT` of the loss; so a short or noisy run is never called flat.
    """
    if history.share_done < 0.5 or history.has_rewards or (fall := _flat(history)) is None:
        return
    rate = max(history.values("learning_rate"), default=0.0)
    alpha, rank = history.settings.get("alpha"), history.settings.get("rank")
    if 0 < rate < SMALL_RATE:
        yield Finding(
            "rate_too_small",
            history.steps,
            f"{fall}; the highest learning rate is {rate:.2g}",
            "an adapter moves by about the learning rate a step, and that is too little to matter",
            f"take 10 to 100 times as much, such as {spelt('learning_rate', 2e-4)}",
        )
    elif alpha is not None and rank and alpha / rank < SMALL_SCALE:
        yield Finding(
            "flat_loss",
            history.steps,
            fall,
            f"the adapter's update is multiplied by alpha / rank = {alpha / rank:.2g}, which hides it",
            f"take an alpha of about the rank or twice that: {spelt('alpha', 2 * rank)}",
        )
    else:
        yield Finding(
            "flat_loss",
            history.steps,
            fall,
            "the rows teach this model nothing: labels do not follow from prompts, or it has learned "
            "them before; or the adapter sits on too few layers",
            "read some rows (strop data check DATA), and try "
            f"{spelt('target_modules', 'all-linear')} or a higher {spelt('learning_rate')}",
        )


SMALL_SCALE = 0.01
"""alpha / rank below which an adapter's update is hidden."""


def _flat(history: History) -> str | None:
    """Return a sentence that says how flat the loss is; None where it fell, rose or may have."""
    held_out = history.points("held_out_loss")
    if len(held_out) > 1 and history.steps >= ENOUGH:
        (_, first), (step, last) = held_out[0], held_out[-1]
        if held_out[0][0] == 0 and first > SOLVED:
            if abs(first - last) >= FLAT_EVALUATION * first:
                return None
            return (
                f"the held-out loss is {first:.4f} before training and {last:.4f} at step {step:,}"
            )
    losses = history.values("loss")
    if len(losses) < ENOUGH:
        return None
    begin, end = part(losses, 0.0, 1 / 3), part(losses, 2 / 3, 1.0)
    first, last = statistics.fmean(begin), statistics.fmean(end)
    error = noise(losses) * (1 / len(begin) + 1 / len(end)) ** 0.5
    if first <= SOLVED or abs(first - last) + 2 * error >= FLAT * first:
        return None
    return f"the loss is {first:.4f} in the first third of the steps and {last:.4f} in the last"


def check_solved(history: History) -> Iterator[Finding]:
    """Yield a finding if the training rows are known to the letter for most of the run."""
    losses = history.points("loss")
    if len(losses) < ENOUGH // 2 or history.has_rewards or history.values("reward_margin"):
        return
    late = [abs(value) for _, value in losses[len(losses) // 2 :]]
    if 0 < statistics.median(late) < SOLVED:
        since = next(step for step, value in losses if abs(value) < SOLVED)
        yield Finding(
            "nothing_left_to_learn",
            since,
            f"the loss is below {SOLVED:g} from step {since:,} on",
            "the answer stands in the prompt, is the same in every row, or the rows are few and were "
            "learned by heart",
            f"look at the rows (strop data check DATA), and stop there: {spelt('max_steps', since)}",
        )


def check_overfitting(history: History) -> Iterator[Finding]:
    """Yield a finding if the held-out loss rose from its lowest while the training loss fell."""
    held_out = [(step, x) for step, x in history.points("held_out_loss")]
    if len(held_out) < 2 or history.keeps_best:
        return
    step, lowest = min(held_out, key=lambda point: point[1])
    _, last = held_out[-1]
    before = [x for s, x in history.points("loss") if s <= max(step, 1)]
    since = [x for s, x in history.points("loss") if s > step]
    if last - lowest <= OVERFITTED * max(1.0, lowest) or not since:
        return
    if before and statistics.fmean(part(since, 0.5, 1.0)) >= statistics.fmean(part(before, 0.5, 1)):
        return
    yield Finding(
        "overfitting",
        step,
        f"the held-out loss rose from {lowest:.3f} at step {step:,} to {last:.3f} while the training "
        "loss fell",
        "the rows are learned by heart: too many passes over too few rows",
        f"keep the best evaluation ({spelt('load_best_model_at_end', True)}), stop at it "
        f"({spelt('early_stopping_patience', 2)}), or train fewer epochs",
    )


WINDOW = 5
"""Losses before and after a step that it is compared with."""


def check_spikes(history: History) -> Iterator[Finding]:
    """Yield a finding if single losses lie far above their neighbours, about as high as untrained.

    That is 1.5 times the first losses, or 0.7 times them and 4 times the neighbours; an error among
    rows that are learned otherwise is no spike.
    """
    points = history.points("loss")
    if len(points) < ENOUGH // 2 or history.has_rewards:
        return
    values = [value for _, value in points]
    start = max(values[:WINDOW])
    spikes = []
    for i, (step, value) in list(enumerate(points))[WINDOW:]:
        around = values[max(0, i - WINDOW) : i] + values[i + 1 : i + 1 + WINDOW]
        level = statistics.median(around)
        usual = statistics.median(abs(x - level) for x in around)
        unlike = value > 1.5 * max(start, level, 0.5) or value > max(0.7 * start, 4 * level, 0.5)
        if unlike and value - level > 10 * max(usual, noise(values)):
            spikes.append((step, value, level))
    if not spikes:
        return
    step, value, level = max(spikes, key=lambda spike: spike[1] - spike[2])
    count = "a step" if len(spikes) == 1 else f"{len(spikes):,} steps"
    yield Finding(
        "loss_spikes",
        spikes[0][0],
        f"the loss of {count} stands out, most at step {step:,}: {value:.3f} among {level:.3f}",
        "rows unlike all others (broken text, another language, wrong answers), or updates that are "
        "at times too large",
        f"find such rows (strop data check DATA); else clip ({spelt('max_grad_norm', 0.3)}) or lower "
        f"{spelt('learning_rate')}",
    )


def _lower_rate(history: History, factor: int) -> str:
    rate = max(history.values("learning_rate"), default=0.0)
    if not rate:
        return f"start again with a lower {spelt('learning_rate')}"
    lower = float(f"{rate / factor:.2g}")
    return f"start again with a tenth of the learning rate: {spelt('learning_rate', lower)}"


def _is_number(value: float) -> bool:
    return math.isfinite(value)
