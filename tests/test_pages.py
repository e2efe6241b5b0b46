"""The code blocks of the pages for users run, top to bottom, on a tiny model and few steps."""

import ast
import json
import re
import runpy
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from strop.cli import main
from strop.cli.app import app
from tests.tiny.saved import save_model

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(
    file for kind in ("start", "guides", "explanation") for file in DOCS.glob(f"{kind}/*.md")
)
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WITH_BLOCKS = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]
SMALL = "--bits 16 --max-steps 2"
"""What every training of these tests takes besides what the page says."""


def in_this_process(line, monkeypatch):
    """Run a command line of a page, as a shell would start it."""
    words = shlex.split(line, comments=True)
    assert words[0] == "strop", line
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, line


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    return save_model("llama", tmp_path_factory.mktemp("model") / "small-llama")


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page, small_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tones = ("negative", "positive", "neutral")
    rows = [{"prompt": f"Tone of: row {n}", "completion": tones[n % 3]} for n in range(15)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number, (language, block) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
        if language == "python":
            program = tmp_path / f"block_{number}.py"
            program.write_text(block.replace("smollm2-135m-instruct", str(small_model)))
            runpy.run_path(str(program), run_name="__main__")
            continue
        for line in block.strip().splitlines():
            small = (
                f" --model {small_model} {SMALL}" if re.match("strop (plan|train) ", line) else ""
            )
            in_this_process(line + small, monkeypatch)


def test_a_block_that_is_not_run_says_so_by_its_language():
    text = {page: page.read_text(encoding="utf-8") for page in PAGES}
    languages = {
        page: set(re.findall(r"^```(\w*)$", text[page], re.MULTILINE)) - {""} for page in PAGES
    }
    assert not {
        page: found for page, found in languages.items() if found - {"python", "bash", "console"}
    }


def flags_of(command, words):
    """Return the flags of the command that a line calls."""
    for word in words:
        if not hasattr(command, "commands"):
            break
        command = command.commands[word]
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


def test_every_command_line_of_the_documents_has_a_command_and_flags_that_exist():
    lines = [
        (page.name, line)
        for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
        for block in re.findall(r"^```(?:bash|console|)\n(.*?)^```$", page.read_text(), re.M | re.S)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("strop ")
    ]
    assert len(lines) > 60
    wrong, strop = [], typer.main.get_command(app)
    for page, line in lines:
        words = shlex.split(line.partition("  #")[0])[1:]
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        wrong += [
            (page, line, flag) for flag in flags - flags_of(strop, words) - {"--version", "--help"}
        ]
    assert not wrong


def test_every_flag_that_a_guide_mentions_exists():
    commands, todo = [], [typer.main.get_command(app)]
    while todo:
        command = todo.pop()
        commands.append(command)
        todo += getattr(command, "commands", {}).values()
    known = {name for c in commands for option in c.params for name in option.opts}
    known |= {"--version", "--help", "--install-completion", "--gpus", "--num_processes"}
    for page in PAGES:
        flags = set(re.findall(r"`(--[a-z][a-z_-]+)", page.read_text(encoding="utf-8")))
        assert flags <= known, f"{page.name}: {flags - known}"


@pytest.mark.slow
def test_what_python_of_the_documents_imports_of_strop_is_there():
    names = set()
    for page in DOCS.rglob("*.md"):
        for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("strop"):
                    names |= {(node.module, alias.name) for alias in node.names}
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    names |= {("strop", node.attr)} if node.value.id == "strop" else set()
    assert len(names) > 12
    assert not {
        pair
        for pair in names - {("strop", "compat")}
        if not hasattr(import_module(pair[0]), pair[1])
    }


@pytest.mark.slow
def test_the_memory_of_a_step_is_simulated_as_its_page_shows(tmp_path, capsys):
    block = re.search(r"^```python\n(.*?)^```$", (DOCS / "memory.md").read_text(), re.M | re.S)
    (tmp_path / "block.py").write_text(block[1])
    runpy.run_path(str(tmp_path / "block.py"), run_name="__main__")
    assert re.match(r"\d+ \{.*\} \d+", capsys.readouterr().out)
