"""What importing strop may and may not do, each in a fresh interpreter."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import strop

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "pyarrow", "typer", "rich", "numpy")


def modules():
    """Return every module of strop that is in its wheel: none for tests and benchmarks."""
    names = [module.name for module in pkgutil.walk_packages(strop.__path__, "strop.")]
    left_out = ("test_", "bench_", "cases", "launches")
    return [
        name
        for name in names
        if not name.startswith("strop.testing") and not name.split(".")[-1].startswith(left_out)
    ]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter loads for `code`."""
    ends = "\nexcept SystemExit:\n    pass\n"
    body = "".join(f"    {line}\n" for line in code.splitlines())
    new = "sys.stderr.write('\\0' + '\\n'.join(set(sys.modules) - before))"
    printed = run(f"import sys\nbefore = set(sys.modules)\ntry:\n{body}{ends}{new}")
    return set(printed.rpartition("\0")[2].split())


def test_import_loads_under_fifty_modules():
    assert len(loaded_by("import strop")) < 50


def test_import_prints_nothing_and_loads_nothing_heavy():
    code = f"import sys; import strop; loaded = set({HEAVY}) & set(sys.modules); assert not loaded"
    assert run(f"{code}, loaded") == ""


def test_every_module_imports_and_none_changes_an_environment_variable_or_patches_torch():
    run(
        "import importlib, os, sys, torch\n"
        "def faces():\n"
        "    f = torch.nn.functional\n"
        "    return dict(os.environ), dict(vars(f)), dict(vars(torch.Tensor)), sys.excepthook\n"
        "before = faces()\n"
        + "".join(f"importlib.import_module({m!r})\n" for m in modules())
        + "assert before == faces()\n"
        "assert not torch.cuda.is_initialized()\n"
    )


def test_an_export_loads_nothing_of_training():
    heavy = ("peft", "bitsandbytes", "trl", "datasets", "pandas", "torch._dynamo")
    code = f"loaded = set({heavy}) & set(sys.modules); assert not loaded, loaded"
    run(f"import sys; import strop.exporting.exporter; {code}")


@pytest.mark.parametrize("absent", ["triton", "transformers", "trl", "peft"])
def test_operations_import_without_optional_packages(absent):
    lines = [f"import {m}\n" for m in modules() if m.startswith(("strop.ops", "strop.core"))]
    lines = [line for line in lines if not line.strip().endswith(".triton")]
    run(f"import sys; sys.modules[{absent!r}] = None\n" + "".join(lines))


def test_the_help_of_the_command_loads_few_modules_and_nothing_heavy():
    loaded = loaded_by("sys.argv = ['strop', '--help']\nfrom strop.cli import main\nmain()")
    assert not loaded & (set(HEAVY) - {"typer", "rich"})
    assert len({name for name in loaded if name.partition(".")[0] != "strop"}) < 500


def test_a_public_name_that_does_not_exist_is_refused_by_name():
    with pytest.raises(AttributeError, match="no public name 'fine_tune'"):
        _ = strop.fine_tune


def test_the_package_says_that_it_is_typed():
    assert all((Path(folder) / "py.typed").exists() for folder in strop.__path__)


def test_what_cannot_be_done_is_said_before_torch_is_imported(tmp_path, monkeypatch):
    commands = (
        "train absent.jsonl",
        "train rows.jsonl --model ./absent",
        "train rows.jsonl --memory much",
        "plan absent.jsonl",
        "plan rows.jsonl --time soon",
        "train rows.jsonl --out used",
        "train rows.jsonl --epochs two",
        "train rows.jsonl --trainer absent=1",
        "eval ./absent rows.jsonl",
        "export absent --to gguf",
        "quantize ./absent --out new",
        "quantize rows.jsonl --out new",
        "chat ./absent --say hello",
        "serve absent",
        "push absent me/tone",
    )
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 + 1?", "completion": "2"}\n' * 4)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    said = run(
        "import sys\nfrom strop.cli import main\n"
        f"for command in {commands}:\n"
        "    sys.argv = ['strop', *command.split()]\n"
        "    try:\n        main()\n"
        "    except SystemExit as e:\n        assert e.code == 1, command\n"
        "    assert not {'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules), command\n"
    )
    assert said.count("strop: ") == len(commands)


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "strop", "--version"], capture_output=True)
    assert done.stdout.decode() == f"strop {strop.__version__}\n"
