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
    *("documents_page", "methods_page", "way_over_page", "readme_numbers"),
    *("commands_page", "errors_page", "examples_page"),
]
PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def blocks(language, file="README.md"):
    """Return the code blocks of the README in a language."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_every_public_name_is_in_the_docs():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    missing = [name for name in strop.__all__ if f"`strop.{name}" not in page]
    assert not missing


@pytest.fixture
def script(monkeypatch):
    """Return a function that imports a script by its name."""
    monkeypatch.syspath_prepend(ROOT / "scripts")

    def imported(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return imported


@pytest.mark.parametrize("name", PAGES_OF_SCRIPTS)
def test_a_page_made_by_a_script_is_what_the_code_declares(name, script):
    module = script(name)
    text = sys.modules["wrap"].wrapped(module.page())
    assert module.PAGE.read_text(encoding="utf-8") == text, "run: make pages"


def test_what_scripts_write_beside_whole_pages_is_up_to_date(script):
    for path, text in script("explanation_pages").pages().items():
        assert path.read_text(encoding="utf-8") == text, "run: make pages"
    picture = script("packages_picture")
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.picture(), "run: make pages"
    numbers = script("readme_numbers")
    for file, language in ((numbers.README, 0), (numbers.CHINESE, 1)):
        short = numbers.short(numbers.recorded(), language)
        assert short in file.read_text(encoding="utf-8"), "run: make numbers"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


@pytest.mark.parametrize("language", ["console", "bash", "json", "python"])
def test_the_chinese_readme_has_the_commands_of_the_english_one(language):
    plain = [re.sub(r"\s*#.*", "", block) for block in blocks(language)]
    assert plain
    assert [re.sub(r"\s*#.*", "", block) for block in blocks(language, "README.zh.md")] == plain


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
