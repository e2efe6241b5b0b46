"""What a fresh process found when it opened an exported model with that model's own loader."""

import dataclasses
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from strop.core.files import write_json
from strop.export.comparison import Agreement, Answer
from strop.export.reference import Reference

_REFUSALS = (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError)
"""What loaders raise at a file they cannot take."""


@dataclass(slots=True, kw_only=True)
class Findings:
    """Measurements of an exported model, and the faults that were seen on the way."""

    agreement: Agreement | None = None
    """None where the model could not be opened."""
    answers: int = 0
    """Questions that were answered."""
    same_answers: int = 0
    """Answers equal to the trained model's, token for token."""
    answer_tokens: int = 0
    """Tokens of answers up to where they depart, that one included."""
    departures: list[float] = field(default_factory=list)
    """Where an answer departs, how many nats likelier the trained model found its own token."""
    ends_expected: int = 0
    """Answers that the trained model ended by an end token."""
    ends_produced: int = 0
    """Those of them that the exported model ended as well, or that had departed before."""
    weights: int = 0
    """Tensors that were read back and compared."""
    tokens_checked: int = 0
    """Tokens of texts and chats that were compared."""
    faults: list[str] = field(default_factory=list)
    """Sentences, each one fault."""
    notes: list[str] = field(default_factory=list)
    """What the loader does otherwise with every model of this kind; sentences."""

    def save(self, file: Path) -> None:
        """Write everything."""
        write_json(file, dataclasses.asdict(self))

    @classmethod
    def open(cls, file: Path) -> "Findings":
        """Read what `save` wrote."""
        plain = json.loads(file.read_text(encoding="utf-8"))
        if plain["agreement"] is not None:
            plain["agreement"] = Agreement(**plain["agreement"])
        return cls(**plain)

    def compare_ids(self, what: str, found: Sequence[int], wanted: Sequence[int]) -> None:
        """Count tokens that were compared, and note where they differ."""
        self.tokens_checked += len(wanted)
        if list(found) == list(wanted):
            return
        begun = f"{what} has the begin token twice"
        if len(found) > 1 and found[0] == found[1] and list(found[1:]) == list(wanted):
            self.faults.append(begun)
            return
        i = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), -1)
        i = min(len(found), len(wanted)) if i < 0 else i
        self.faults.append(
            f"{what} becomes other tokens: {list(found[i : i + 6])} instead of "
            f"{list(wanted[i : i + 6])} from token {i} on"
        )

    def compare_answer(
        self, right: Answer, found: Sequence[int], ended: bool, ends: Sequence[int]
    ) -> None:
        """Count an answer; whether it ended is asked only where it is the trained model's own."""
        own = right.ids[:-1] if right.ended else right.ids
        other = [i for i in found if i not in ends]
        self.answers += 1
        same = own == other[: len(own)] and (not right.ended or len(other) == len(own))
        self.same_answers += same
        alike = next((i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), None)
        self.answer_tokens += len(own) if alike is None else alike + 1
        departs = 0.0
        if not same and own != other[: len(own)]:
            departs = right.gap(found)
            self.departures.append(departs)
        if right.ended:
            self.ends_expected += 1
            self.ends_produced += ended or departs > 0


def report(work: Path, out: Path, look: Callable[[Reference, Findings], Any]) -> None:
    """Open the reference in `work`, look at an export, and write the findings to `out`.

    Whatever a loader raises is a finding too: its last line becomes a fault.
    """
    findings = Findings()
    reference = Reference.open(work)
    try:
        look(reference, findings)
    except (*_REFUSALS, SafetensorError) as e:
        traceback.print_exc()
        text = " ".join(str(e).split())
        findings.faults.insert(0, f"it cannot be opened: {type(e).__name__}: {text[:400]}")
    findings.save(out)
