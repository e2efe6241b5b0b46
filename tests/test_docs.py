"""The documents are true: names, settings, links, and every block of code in the README."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import strop

ROOT = Path(__file__).parent.parent
PAGES_OF_SCRIPTS = [
    *("settings_page", "data_page", "gpu_page", "memory_page", "four_bits_page"),
    *("certificates_page", "templates_page", "trainers_page"),
    *("architectures_page", "durability_page", "evaluation_page", "sampling_page"),
    *("documents_page", "methods_page", "way_over_page"),
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language):
    """Return the code blocks of the README in a language."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_every_public_name_is_in_the_docs():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    missing = [name for name in strop.__all__ if f"`strop.{name}" not in page]
    assert not missing


@pytest.mark.parametrize("name", PAGES_OF_SCRIPTS)
def test_a_page_made_by_a_script_is_what_the_code_declares(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    place = ROOT / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, place)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = sys.modules["wrap"].wrapped(script.page())
    assert script.PAGE.read_text(encoding="utf-8") == text, "run: make pages"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_prose_is_wrapped(page, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    text = page.read_text(encoding="utf-8")
    assert importlib.import_module("wrap").wrapped(text) == text, f"run: scripts/wrap.py {page}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_contributing_is_one_page():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split()) < 900


def test_every_make_target_of_the_documents_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, f"{page.name}: {named - targets}"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_of_the_readme_runs(number, tmp_path):
    run([sys.executable, "-c", blocks("python")[number]], tmp_path)


@pytest.mark.slow
def test_commands_of_the_readme_run(tmp_path):
    row = json.loads(blocks("json")[0])
    tones = ("negative", "positive", "neutral")
    rows = [
        {"prompt": f"{row['prompt']} {number}", "completion": tones[number % 3]}
        for number in range(15)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for line in blocks("bash")[0].strip().splitlines():
        here = Path(sys.executable).parent
        run(["bash", "-c", f'PATH="{here}:$PATH"; {line}'], tmp_path)


def run(words, folder):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
