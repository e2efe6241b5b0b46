"""Certificate of an export: measurements, thresholds and the verdict."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.core.digest import file_digest
from strop.core.errors import DataError
from strop.core.files import read_sealed, reading, write_sealed
from strop.exporting.certify.findings import Findings
from strop.exporting.certify.rewards.limits import RewardThresholds
from strop.exporting.certify.rewards.verdict import judged_rewards, sentence_of
from strop.metrics.divergence import Agreement
from strop.metrics.rewards import RewardAgreement
from strop.metrics.significance import SURE
from strop.runs.model_card import FILE as CARD

FILE = "certificate.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Largest differences allowed to an export of one kind."""

    kl: float
    """Largest mean KL divergence per token, in nats."""
    top1: float
    """Least share of tokens whose likeliest successor is the trained model's own; 0 sets none."""
    gap: float
    """Nats of a near tie. Where the trained model finds its token likelier by no more, this KL
    may turn the order: a near tie. Beyond it the trained model is sure."""


def within(kl: float, top1: float = 0.0) -> Thresholds:
    """Return the thresholds of a rounding that may cost `kl` nats per token.

    Noise of standard deviation s on each logit costs at most KL = s^2 / 2, to second order (less
    where few tokens have all the probability: s is then larger and the gap strict), and moves the
    difference of two logits by sqrt(2) s = 2 sqrt(KL). The order of two tokens further apart than
    two such deviations, gap = 4 sqrt(KL), turns at fewer than 2.3 % of tokens (`SURE`), were they
    all just that far apart. So flips inside the gap say nothing that KL has not said; more flips
    than these beyond it are another fault than rounding. A least share of equal tokens, which
    depends on how often a model wavers, is set only where rounding is too fine to turn ties.

    The same holds where an answer of likeliest tokens departs, up to twice the gap. Of 120 answers
    of SmolLM2-135M in a Q8_0 that rounds each weight to the nearest, 5 departed beyond it, by 0.42
    nats at most (2,233 tokens), in F16 none. Were none allowed, every fourth sound Q8_0 would fail
    on its eight answers.
    """
    return Thresholds(kl=kl, top1=top1, gap=4 * math.sqrt(kl))


EXACT = within(1e-4, 0.995)
CLOSE = within(1e-3, 0.99)
ROUNDED = within(5e-3)
THRESHOLDS = {
    **dict.fromkeys(("", "float32"), EXACT),
    **dict.fromkeys(("float16", "f32", "f16"), CLOSE),
    **dict.fromkeys(("bfloat16", "bf16", "q8_0"), ROUNDED),
}
"""Thresholds by number format; adapters have none, as they are stored exactly."""
FEW_BITS = within(0.3)
"""Thresholds of formats with six bits and fewer, where a small model's answers do change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Agreement of an exported model with the trained one."""

    target: str
    """Target that was written: adapter, merged, gguf, ollama or bnb."""
    format: str
    """The number format of its weights, where there is a choice."""
    opened_by: str = ""
    """Loader that opened it, in a fresh process."""
    compared_on: str = ""
    """Source of the texts."""
    agreement: Agreement | None = None
    """Divergences on the texts; None where it could not be opened, or rewards answers."""
    rewards: RewardAgreement | None = None
    """Differences of rewards; None where it could not be opened, or writes text."""
    answers: int = 0
    same_answers: int = 0
    answer_tokens: int = 0
    """Tokens of all answers, each up to where it departs from the trained model's."""
    departures: tuple[float, ...] = ()
    """Nats by which the trained model found its own token likelier where answers depart."""
    ends_expected: int = 0
    ends_produced: int = 0
    weights: int = 0
    """Tensors read back and compared with the trained model's."""
    tokens_checked: int = 0
    base: str = ""
    """Base that the update was added to, where there was a choice: dequantised or original."""
    bases: dict[str, Agreement] = field(default_factory=dict)
    """Measurements of each base; empty where there was no choice."""
    thresholds: Thresholds | RewardThresholds | None
    """Those of rewards follow from what was measured; None before."""
    faults: tuple[str, ...]
    """Sentences; empty where the export passes."""
    notes: tuple[str, ...] = ()
    """Differences of its loader with every model of this kind; no faults of the export."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file that was certified."""
    over: str = ""
    """SHA-256 of the GGUF file of its adapter's base, where that lies elsewhere."""
    trained: str = ""
    """SHA-256 of the adapter that training left, see `strop.exporting.certify.certified.adapter_digest`."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the export may be used as the trained model."""
        return not self.faults

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        name = self.target if self.format in ("", self.target) else f"{self.target} {self.format}"
        if not self.passed:
            more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
            return f"{name} is not certified: {self.faults[0]}{more}"
        agrees = f"{name} agrees with the trained model within the limit for its format"
        if self.rewards is not None:
            assert isinstance(self.thresholds, RewardThresholds)
            measured = sentence_of(self.rewards, self.thresholds)
            return f"{agrees} {measured}, opened by {self.opened_by}"
        assert self.agreement is not None, "an export without measurements has faults"
        assert isinstance(self.thresholds, Thresholds)
        kl = f"KL {max(0.0, self.agreement.kl):.1e} ≤ {self.thresholds.kl:g}"
        gap = max(self.departures, default=0.0)
        alike = f"{self.same_answers} of {self.answers} answers alike"
        if self.same_answers < self.answers and gap <= self.thresholds.gap:
            alike += " and the others but for the choice at a near tie"
        return (
            f"{agrees} ({kl} nats per token): the same likeliest token at "
            f"{100 * self.agreement.top1:.1f} % of {self.agreement.tokens}, {alike}, opened by "
            f"{self.opened_by}"
        )

    @property
    def verdict(self) -> dict[str, Any]:
        """Verdict and sentence, as run.json records them."""
        return {"passed": self.passed, "sentence": self.sentence}

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data, the verdict first."""
        return {
            **self.verdict,
            **dataclasses.asdict(self),
        }

    def save(self, folder: Path) -> None:
        """Write certificate.json."""
        write_sealed(folder / FILE, self.plain())

    @classmethod
    def open(cls, folder: Path) -> "Certificate":
        """Read certificate.json of an exported folder.

        Raises:
            DataError: it cannot be read; or its verdict is not what its faults say.
        """
        file = folder / FILE
        with reading(file, "export the run again"):
            plain = read_sealed(file, hint="export the run again")
            passed = plain.pop("passed")
            del plain["sentence"]
            if plain["agreement"] is not None:
                plain["agreement"] = Agreement(**plain["agreement"])
            plain["bases"] = {
                name: Agreement(**agreement) for name, agreement in plain["bases"].items()
            }
            kind: type[Thresholds | RewardThresholds] = Thresholds
            if plain.get("rewards") is not None:
                plain["rewards"] = RewardAgreement(**plain["rewards"])
                kind = RewardThresholds
            if plain["thresholds"] is not None:
                plain["thresholds"] = kind(**plain["thresholds"])
            for name in ("departures", "faults", "notes"):
                plain[name] = tuple(plain[name])
            certificate = cls(**plain)
        if passed is not certificate.passed:
            raise DataError(f"{file} says passed {passed} beside {len(certificate.faults)} faults")
        return certificate

    def changed_files(self, folder: Path) -> list[str]:
        """Return the files that are no longer what was certified."""
        now = digests(folder)
        return sorted(name for name, digest in self.files.items() if now.get(name) != digest)


def not_compared(target: str, format: str, *, rewards: bool = False) -> Certificate:
    """Return the certificate of an export that is written and not yet, or never, compared.

    Args:
        target: that was written.
        format: of its numbers.
        rewards: the model rewards answers.
    """
    return Certificate(
        target=target,
        format=format,
        thresholds=None if rewards else thresholds(format),
        faults=("it was not compared with the trained model",),
    )


def thresholds(format: str) -> Thresholds:
    """Return what an export with numbers of this format may differ by."""
    return THRESHOLDS.get(format.removeprefix("adapter-"), FEW_BITS)


def judged(findings: Findings, allowed: Thresholds | RewardThresholds | None) -> tuple[str, ...]:
    """Return the faults of an export: those seen on the way, then what exceeds a threshold."""
    if not isinstance(allowed, Thresholds):
        return judged_rewards(findings, allowed)
    faults = list(findings.faults)
    if (agreement := findings.agreement) is None:
        return tuple(faults or [findings.unmeasured])
    if not agreement.kl <= allowed.kl:  # a NaN is not below either
        faults.append(
            f"its distributions are {agreement.kl:.2g} nats per token (KL) from the trained "
            f"model's; {allowed.kl:g} is allowed"
        )
    if agreement.top1 < allowed.top1:
        faults.append(
            f"it finds another token likeliest at {100 * (1 - agreement.top1):.1f} % of "
            f"{agreement.tokens} tokens; {100 * (1 - allowed.top1):.1f} % is allowed"
        )
    sure = sum(margin > allowed.gap for margin in agreement.flips)
    if sure > (1 - SURE) * agreement.tokens:
        faults.append(
            f"it finds another token likeliest at {sure} of {agreement.tokens} tokens where the "
            f"trained model is sure of its own by more than {allowed.gap:.2g} nats; "
            f"{100 * (1 - SURE):.1f} % is allowed"
        )
    clear = [margin for margin in findings.departures if margin > allowed.gap]
    few = len(clear) <= (0 if allowed.top1 else (1 - SURE) * findings.answer_tokens)
    if not few or max(clear, default=0.0) > 2 * allowed.gap:
        faults.append(
            f"{len(clear)} of {findings.answers} answers depart where the trained model is sure of its "
            f"own, by up to {max(clear):.2g} nats; {allowed.gap:.2g} is a near tie"
        )
    if findings.ends_produced < findings.ends_expected:
        faults.append(
            f"{findings.ends_expected - findings.ends_produced} of {findings.ends_expected} answers that "
            "should end run on: the end token is not what it stops at"
        )
    return tuple(faults)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder but the certificate and the card that quotes it."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (FILE, CARD):
            hashes[str(path.relative_to(folder))] = file_digest(path)
    return hashes
