"""Opens an exported model in a fresh process and writes its certificate."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from strop.core.digest import file_digest
from strop.core.errors import MissingPackageError
from strop.core.system import versions
from strop.core.system.processes import ending
from strop.exporting.certify.certificate import (
    Certificate,
    Thresholds,
    digests,
    judged,
    thresholds,
)
from strop.exporting.certify.findings import STEP, Findings
from strop.exporting.certify.reference import ReferenceOutputs
from strop.exporting.certify.rewards.limits import RewardThresholds
from strop.exporting.ollama import modelfile

SECONDS, SECONDS_PER_GB = 1800, 120
"""Limit of a comparing process, and what each 10^9 bytes of the files add to it."""
_LOADERS = {"gguf": "xllamacpp", "ollama": "xllamacpp", "bnb": "bitsandbytes"}


def check_loaders(targets: Iterable[str]) -> None:
    """Check that the packages that open exports are installed, before anything is written.

    Raises:
        MissingPackageError: one is not installed; the text has the command.
    """
    for target in targets:
        package = _LOADERS.get(target)
        if package and importlib.util.find_spec(package) is None:
            extra = "bnb" if target == "bnb" else "gguf"
            raise MissingPackageError(
                f"to certify --to {target} it is opened by {package}, which is not installed; run: "
                f'pip install "strop[{extra}]", or write it uncertified with --no-certify'
            )


def certify(
    folder: Path,
    target: str,
    format: str,
    opened: Path,
    work: Path,
    reference: ReferenceOutputs,
    adapter: Path | None = None,
) -> Certificate:
    """Compare the export in `folder` with the trained model; write certificate.json into it.

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
    findings = _findings(opened, work, None if llama else target, adapter)
    allowed = _allowed(target, format, reference, findings)
    certificate = Certificate(
        target=target,
        format=format,
        opened_by="llama.cpp" if llama else "PEFT" if target == "adapter" else "transformers",
        compared_on=reference.source,
        agreement=findings.agreement,
        rewards=findings.rewards,
        answers=findings.answers,
        same_answers=findings.same_answers,
        answer_tokens=findings.answer_tokens,
        departures=tuple(findings.departures),
        ends_expected=findings.ends_expected,
        ends_produced=findings.ends_produced,
        weights=findings.weights,
        tokens_checked=findings.tokens_checked,
        base="" if target == "adapter" or adapter is not None else reference.base,
        bases=reference.bases,
        thresholds=allowed,
        faults=judged(findings, allowed),
        notes=tuple(findings.notes),
        files=digests(folder),
        over="" if adapter is None else file_digest(opened),
        trained=reference.trained,
        versions=versions.installed(),
    )
    certificate.save(folder)
    return certificate


def _allowed(
    target: str, format: str, reference: ReferenceOutputs, findings: Findings
) -> Thresholds | RewardThresholds | None:
    """Return what an export may differ by; of rewards None where none was compared."""
    if reference.rewards is not None:
        measured = findings.rewards is not None
        return reference.rewards.thresholds(findings.coarsest) if measured else None
    kind = reference.base_kind
    return thresholds(
        {"NF4": "nf4", "BF16": "bf16"}.get(kind, "") if target == "adapter" else format
    )


def _findings(opened: Path, work: Path, kind: str | None, adapter: Path | None) -> Findings:
    """Return the findings: of transformers or PEFT where a kind is given, else of llama.cpp."""
    out = work / "findings.json"
    out.unlink(missing_ok=True)
    seconds = SECONDS + SECONDS_PER_GB * _size(opened) // 10**9
    module = f"strop.exporting.certify.{'open_transformers' if kind else 'open_llama_cpp'}"
    words = [kind, opened, work, out, adapter]
    try:
        done = subprocess.run(
            # -P: no module of the folder that strop was called in takes the place of a package
            [sys.executable, "-P", "-m", module, *(str(w) for w in words if w is not None)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as e:
        step, _ = _last(e.stderr or "")
        took = f"comparing it took more than {seconds // 60} minutes and was given up"
        return Findings(
            faults=[f"{took} while {step}; certify it on a faster or less busy machine"]
        )
    if not out.is_file():  # it died, say by a signal
        step, line = _last(done.stderr)
        died = f"the process that opened it {ending(done.returncode)} while {step}"
        return Findings(faults=[f"{died}; it printed last: {line}"])
    return Findings.open(out)


def _size(opened: Path) -> int:
    """Return the bytes of a file, or of all files of a folder; a Modelfile stands for its folder."""
    folder = opened.parent if opened.name == modelfile.FILE else opened
    files = [folder] if folder.is_file() else folder.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _last(printed: str | bytes) -> tuple[str, str]:
    """Return the step that a process was at, and the last line that it printed beside."""
    text = printed.decode("utf-8", "replace") if isinstance(printed, bytes) else printed
    lines = [line for line in text.splitlines() if line.strip()]
    steps = [line.removeprefix(STEP) for line in lines if line.startswith(STEP)]
    others = [line.strip() for line in lines if not line.startswith(STEP)]
    return (steps or ["starting"])[-1], (others or ["nothing"])[-1][:400]
