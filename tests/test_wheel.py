"""The wheel: all that strop needs at run time, and nothing of its tests and benchmarks."""

import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import strop

ROOT = Path(__file__).parent.parent
FOR_TESTS = re.compile(r"(^|/)(test_\w+|bench_\w+|cases|launches)\.py$|^strop/testing/")
MODULES_FOR_TESTS = re.compile(r"^strop\.(testing|ops\.\w+\.(cases|launches)|layers\.cases)(\.|$)")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    (file,) = builder.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(file) as archive:
        yield archive


@pytest.fixture
def installed(wheel, tmp_path):
    """Return a function that runs Python with the wheel in place of the checkout."""
    into = ("--no-deps", "--no-index", "--quiet", "--target", str(tmp_path / "site"))
    subprocess.run([sys.executable, "-m", "pip", "install", *into, wheel.filename], check=True)

    def run(*words):
        command = [sys.executable, *words]
        place = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "", "STROP_CACHE": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_wheel_has_every_file_but_those_of_tests(wheel):
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "strop").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel.namelist() if name.startswith("strop/")}
    assert packed == {name for name in files if not FOR_TESTS.search(name)}
    assert {Path(name).suffix for name in packed} >= {".py", ".cpp", ".h", ".jinja", ".typed"}


def test_no_module_of_the_wheel_imports_one_that_is_left_out(wheel):
    wrong = []
    for name in wheel.namelist():
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(wheel.read(name))):
            if isinstance(node, ast.ImportFrom):
                modules = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            elif isinstance(node, ast.Import):
                modules = [a.name for a in node.names]
            else:
                continue
            wrong += [(name, module) for module in modules if MODULES_FOR_TESTS.search(module)]
    assert not wrong


def test_the_wheel_has_the_version_and_the_command_of_the_package(wheel):
    (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    assert f"Version: {strop.__version__}" in lines
    assert b"strop = strop.cli:main" in wheel.read(metadata.replace("METADATA", "entry_points.txt"))


@pytest.mark.slow
def test_the_installed_wheel_runs_without_the_checkout(installed, tmp_path):
    place = installed("-c", "import strop; print(strop.__file__)").strip()
    assert place.startswith(str(tmp_path / "site"))
    assert installed("-m", "strop", "--version").strip() == f"strop {strop.__version__}"
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert "1 of 1 rows can be used" in installed("-m", "strop", "data", "check", "rows.jsonl")


def test_a_source_archive_has_what_its_wheel_is_built_from(wheel, tmp_path):
    sdist = pytest.importorskip("hatchling.builders.sdist", reason="hatchling is not installed")
    (file,) = sdist.SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    packed = {f"src/{name}" for name in wheel.namelist() if name.startswith("strop/")}
    assert packed <= names
    assert names >= {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE"}
    assert not [name for name in names if name.startswith((".venv", ".cache", "build/", "runs/"))]
