"""Findings of a fresh process that opened an exported model with that model's loader."""

import dataclasses
import json
import sys
import traceback
import urllib.error
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from safetensors import SafetensorError

from strop.core.files import write_json
from strop.exporting.certify.reference import ReferenceOutputs
from strop.metrics.divergence import Agreement, Answer
from strop.metrics.rewards import RewardAgreement

_REFUSALS = (
    *(OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError, AssertionError),
    *(AttributeError, ArithmeticError, MemoryError),
    *(SafetensorError, jinja2.TemplateError),
)
"""Exceptions that loaders raise at a file they cannot take."""
STEP = "comparing: "
"""Prefix of each line on standard error that names the next step."""
OPENING = "opening"
"""Prefix of the name of each step that opens a file."""


@dataclass(slots=True, kw_only=True)
class Findings:
    """Measurements of an exported model, and the faults that were seen on the way."""

    agreement: Agreement | None = None
    """Divergences on the texts; None where the model could not be opened, or rewards answers."""
    rewards: RewardAgreement | None = None
    """Differences of rewards; None where the model could not be opened, or writes text."""
    coarsest: str = ""
    """Number format of the coarsest weight that was compared, a name in a safetensors header."""
    answers: int = 0
    """Questions that were answered."""
    same_answers: int = 0
    """Answers equal to the trained model's, token for token."""
    answer_tokens: int = 0
    """Tokens of answers up to where they depart, that one included."""
    departures: list[float] = field(default_factory=list)
    """Nats by which the trained model found its token likelier where an answer departs."""
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
    """Differences of the loader with every model of this kind; sentences."""
    step: str = ""
    """Last step, such as `opening the tokenizer`."""

    @property
    def unmeasured(self) -> str:
        """The fault of an export of which nothing was measured."""
        return f"nothing was measured of it; {self.step or 'starting'} came last"

    def begin(self, step: str) -> None:
        """Record the next step, on standard error too: a process that dies cannot do it later."""
        self.step = step
        sys.stderr.write(f"{STEP}{step}\n")
        sys.stderr.flush()

    def fault(self, text: str, once: str) -> None:
        """Add a fault, unless there is one that begins with `once`."""
        if not any(fault.startswith(once) for fault in self.faults):
            self.faults.append(text)

    def note(self, text: str, once: str) -> None:
        """Add a note, unless there is one that begins with `once`."""
        if not any(note.startswith(once) for note in self.notes):
            self.notes.append(text)

    def save(self, file: Path) -> None:
        """Write everything."""
        write_json(file, dataclasses.asdict(self))

    @classmethod
    def open(cls, file: Path) -> "Findings":
        """Read what `save` wrote."""
        plain = json.loads(file.read_text(encoding="utf-8"))
        if plain["agreement"] is not None:
            plain["agreement"] = Agreement(**plain["agreement"])
        if plain["rewards"] is not None:
            plain["rewards"] = RewardAgreement(**plain["rewards"])
        return cls(**plain)

    def compare_ids(self, what: str, ids: Sequence[int], expected: Sequence[int]) -> None:
        """Compare token ids, count them, and record where they differ."""
        self.tokens_checked += len(expected)
        if list(ids) == list(expected):
            return
        begun = f"{what} has the begin token twice"
        if len(ids) > 1 and ids[0] == ids[1] and list(ids[1:]) == list(expected):
            self.faults.append(begun)
            return
        i = next((i for i, (a, b) in enumerate(zip(ids, expected, strict=False)) if a != b), -1)
        i = min(len(ids), len(expected)) if i < 0 else i
        self.faults.append(
            f"{what} becomes other tokens: {list(ids[i : i + 6])} instead of "
            f"{list(expected[i : i + 6])} from token {i} on"
        )

    def compare_answer(
        self, right: Answer, ids: Sequence[int], ended: bool, ends: Sequence[int]
    ) -> None:
        """Compare an answer; its end counts only where the answer is the trained model's."""
        expected = right.ids[:-1] if right.ended else right.ids
        other = [i for i in ids if i not in ends]
        self.answers += 1
        same = expected == other[: len(expected)] and (
            not right.ended or len(other) == len(expected)
        )
        self.same_answers += same
        alike = next(
            (i for i, (a, b) in enumerate(zip(expected, other, strict=False)) if a != b), None
        )
        self.answer_tokens += len(expected) if alike is None else alike + 1
        departs = 0.0
        if not same and expected != other[: len(expected)]:
            departs = right.gap(ids)
            self.departures.append(departs)
        if right.ended:
            self.ends_expected += 1
            self.ends_produced += ended or departs > 0


def report(work: Path, out: Path, look: Callable[[ReferenceOutputs, Findings], Any]) -> None:
    """Compare an export with the reference in `work`, and write the findings to `out`.

    Whatever a loader raises is a finding too: its text becomes a fault, with the step it ended.
    """
    findings = Findings()
    try:
        look(ReferenceOutputs.open(work), findings)
    except _REFUSALS as e:
        traceback.print_exc()
        what = "opened" if findings.step.startswith(OPENING) else "compared"
        step = findings.step or "reading what the trained model says"
        findings.faults.insert(0, f"it cannot be {what}: {step} ended in {_cause(e)}")
    findings.save(out)


def _cause(error: BaseException) -> str:
    """Return kind and text of an error, and where it was raised if it has no text."""
    text = " ".join(str(error).split())
    if isinstance(error, urllib.error.HTTPError):
        text += f": {body(error)}"
    if len(text.split()) < 2:  # as a KeyError's, which is a name alone
        at = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{text or 'no text'}, raised by {at.name} in {Path(at.filename).name}:{at.lineno}"
    return f"{type(error).__name__}: {text[:400]}"


def body(error: urllib.error.HTTPError) -> str:
    """Return what a server says beside the code of an error, on one line."""
    with error:
        return " ".join(error.read().decode("utf-8", "replace").split())[:400]
