"""What importing strop may and may not do, each in a fresh interpreter."""

import pkgutil
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import strop

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "pyarrow", "typer", "rich", "numpy")


def modules():
    """Return every module of strop that is in its wheel: no test, no benchmark, no launches."""
    found = pkgutil.walk_packages(strop.__path__, "strop.")
    names = [module.name for module in found]
    return [n for n in names if not n.split(".")[-1].startswith(("test_", "bench_", "launches"))]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_import_takes_under_300_milliseconds():
    code = "import time; t = time.process_time(); import strop; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.3


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
    run(f"import sys; import strop.export.exporting; {code}")


@pytest.mark.parametrize("absent", ["triton", "transformers", "trl", "peft"])
def test_operations_import_without_optional_packages(absent):
    lines = [f"import {m}\n" for m in modules() if m.startswith(("strop.ops", "strop.core"))]
    lines = [line for line in lines if not line.strip().endswith(".triton")]
    run(f"import sys; sys.modules[{absent!r}] = None\n" + "".join(lines))


def test_the_help_of_the_command_comes_in_half_a_second():
    best = min(_timed_help() for _ in range(3))
    assert best < 0.5, f"strop --help took {best:.2f} s"


def _timed_help() -> float:
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    run("import sys; sys.argv = ['strop', '--help']\nfrom strop.cli import main\nmain()")
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    # of the processor: by the clock, a busy machine would be measured too
    return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


def test_a_public_name_that_does_not_exist_is_refused_by_name():
    with pytest.raises(AttributeError, match="no public name 'fine_tune'"):
        _ = strop.fine_tune


def test_the_package_says_that_it_is_typed():
    assert all((Path(folder) / "py.typed").exists() for folder in strop.__path__)
