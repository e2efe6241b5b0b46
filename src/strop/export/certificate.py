"""The certificate of an export: what was measured, what is allowed, and the verdict."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.core.files import write_json
from strop.export.comparison import Agreement
from strop.export.findings import Findings

FILE = "certificate.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What an export of one kind may differ by."""

    kl: float
    """Largest mean KL divergence per token, in nats."""
    top1: float
    """Least share of tokens whose likeliest successor is the trained model's."""
    gap: float
    """Where an answer departs from the trained model's, that model may have found its own token
    likelier by so many nats: a near tie that rounding may turn."""


EXACT = Thresholds(kl=1e-4, top1=0.995, gap=0.05)
CLOSE = Thresholds(kl=1e-3, top1=0.99, gap=0.1)
ROUNDED = Thresholds(kl=5e-3, top1=0.97, gap=0.3)
THRESHOLDS = {
    **dict.fromkeys(("", "float32"), EXACT),
    **dict.fromkeys(("float16", "f32", "f16"), CLOSE),
    **dict.fromkeys(("bfloat16", "bf16", "q8_0"), ROUNDED),
}
"""By the format of the numbers; adapters have none, as they are stored exactly."""
FEW_BITS = Thresholds(kl=0.3, top1=0.75, gap=2.0)
"""Of formats with six bits and fewer, where a small model's answers do change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What an exported model was found to be beside the trained one."""

    target: str
    """What was written: adapter, merged, gguf, ollama or bnb."""
    format: str
    """The number format of its weights, where there is a choice."""
    opened_by: str
    """The loader, in a fresh process, that opened it."""
    compared_on: str
    """Where the texts come from."""
    agreement: Agreement | None
    """None where it could not be opened."""
    answers: int
    same_answers: int
    gap: float
    ends_expected: int
    ends_produced: int
    weights: int
    """Tensors read back and compared with the trained model's."""
    tokens_checked: int
    thresholds: Thresholds
    faults: tuple[str, ...]
    """Sentences; empty where the export passes."""
    files: dict[str, str]
    """SHA-256 of each file that was certified."""
    versions: dict[str, str]

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
            return f"{name} is not the trained model: {self.faults[0]}{more}"
        assert self.agreement is not None, "an export without measurements has faults"
        return (
            f"{name} is the trained model: KL {self.agreement.kl:.1e} nats per token, the same "
            f"likeliest token at {100 * self.agreement.top1:.1f} % of {self.agreement.tokens}, "
            f"{self.same_answers} of {self.answers} answers alike, opened by {self.opened_by}"
        )

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data, the verdict first."""
        return {
            "passed": self.passed,
            "sentence": self.sentence,
            **dataclasses.asdict(self),
        }

    def save(self, folder: Path) -> None:
        """Write certificate.json."""
        write_json(folder / FILE, self.plain())

    @classmethod
    def open(cls, folder: Path) -> "Certificate":
        """Read certificate.json of an exported folder."""
        plain = json.loads((folder / FILE).read_text(encoding="utf-8"))
        del plain["passed"], plain["sentence"]
        if plain["agreement"] is not None:
            plain["agreement"] = Agreement(**plain["agreement"])
        plain["thresholds"] = Thresholds(**plain["thresholds"])
        plain["faults"] = tuple(plain["faults"])
        return cls(**plain)

    def changed_files(self, folder: Path) -> list[str]:
        """Return the files that are no longer what was certified."""
        now = digests(folder)
        return sorted(name for name, digest in self.files.items() if now.get(name) != digest)


def thresholds(format: str) -> Thresholds:
    """Return what an export with numbers of this format may differ by."""
    return THRESHOLDS.get(format.removeprefix("adapter-"), FEW_BITS)


def judged(found: Findings, allowed: Thresholds) -> tuple[str, ...]:
    """Return the faults of an export: those seen on the way, then what exceeds a threshold."""
    faults = list(found.faults)
    if (agreement := found.agreement) is None:
        return tuple(faults or ["it could not be opened"])
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
    if found.gap > allowed.gap:
        faults.append(
            f"an answer departs where the trained model is sure of its own by {found.gap:.2g} nats; "
            f"{allowed.gap:g} is a near tie"
        )
    if found.ends_produced < found.ends_expected:
        faults.append(
            f"{found.ends_expected - found.ends_produced} of {found.ends_expected} answers that "
            "should end run on: the end token is not what it stops at"
        )
    return tuple(faults)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder but the certificate."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != FILE:
            with path.open("rb") as stream:
                found[str(path.relative_to(folder))] = hashlib.file_digest(
                    stream, "sha256"
                ).hexdigest()
    return found
