"""The wheel: all that strop needs at run time, and nothing of its tests and benchmarks."""

import ast
import re
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
