"""Opens an exported model in a fresh process and writes its certificate."""

import subprocess
import sys
from pathlib import Path

from strop.core import versions
from strop.export import modelfile
from strop.export.certificate import Certificate, digests, judged, thresholds
from strop.export.findings import Findings
from strop.export.reference import Reference

SECONDS = 1800
"""After which a process that compares is given up."""


def certify(
    folder: Path,
    target: str,
    format: str,
    opened: Path,
    work: Path,
    reference: Reference,
    adapter: Path | None = None,
) -> Certificate:
    """Compare what lies in `folder` with the trained model, and write certificate.json into it.

    Args:
        folder: of the export.
        target: adapter, merged, gguf, ollama or bnb.
        format: of its numbers.
        opened: the folder or file that its loader is given.
        work: where `reference` was saved.
        reference: what the trained model says.
        adapter: a GGUF file that llama.cpp is to lay over the one opened.
    """
    llama = opened.suffix == ".gguf" or opened.name == modelfile.FILE
    found = _looked(opened, work, None if llama else target, adapter)
    kind = reference.base_kind
    allowed = thresholds(
        {"NF4": "nf4", "BF16": "bf16"}.get(kind, "") if target == "adapter" else format
    )
    made = Certificate(
        target=target,
        format=format,
        opened_by="llama.cpp" if llama else "PEFT" if target == "adapter" else "transformers",
        compared_on=reference.source,
        agreement=found.agreement,
        answers=found.answers,
        same_answers=found.same_answers,
        answer_tokens=found.answer_tokens,
        departures=tuple(found.departures),
        ends_expected=found.ends_expected,
        ends_produced=found.ends_produced,
        weights=found.weights,
        tokens_checked=found.tokens_checked,
        base="" if target == "adapter" or adapter is not None else reference.base,
        bases=reference.bases,
        thresholds=allowed,
        faults=judged(found, allowed),
        notes=tuple(found.notes),
        files=digests(folder),
        versions=versions.installed(),
    )
    made.save(folder)
    return made


def _looked(opened: Path, work: Path, kind: str | None, adapter: Path | None) -> Findings:
    """Return what was found: by transformers or PEFT where a kind is given, else by llama.cpp."""
    out = work / "findings.json"
    out.unlink(missing_ok=True)
    module = f"strop.export.{'reopen_transformers' if kind else 'reopen_llama_cpp'}"
    words = [kind, opened, work, out, adapter]
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *(str(word) for word in words if word is not None)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Findings(faults=[f"opening it took more than {SECONDS // 60} minutes"])
    if not out.is_file():  # it died, say by a signal
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Findings(faults=[f"the process that opened it died ({done.returncode}): {last}"])
    return Findings.open(out)
