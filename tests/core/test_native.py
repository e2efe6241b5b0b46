import ctypes
import logging
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from strop.core import env, native
from strop.core.native import prebuilt

ADD = """
#include "lanes.h"
extern "C" void add(const float* a, const float* b, float* sum, int64_t n, int32_t threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < n; ++i) sum[i] = a[i] + b[i];
}
"""
MATH = """
#include "lanes.h"
using namespace lanes;
#define APPLY(name) \\
  extern "C" void apply_##name(const float* x, float* y, int64_t n) { \\
    over(n, [&](int64_t i, int64_t count) { \\
      store(y + i, lanes::name(load(x + i, count)), count); }); \\
  }
APPLY(exp) APPLY(tanh) APPLY(erf) APPLY(sigmoid)
"""


def compiler_is_here():
    try:
        return subprocess.run([env.CXX, "--version"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


needs_compiler = pytest.mark.skipif(not compiler_is_here(), reason="needs a C++ compiler")


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Return a C++ file whose compiled form lands in an empty cache."""
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "cpu.cpp"
    path.write_text(ADD)
    return path


def added(source):
    add = native.function(source, "add", "pppqi")
    a, b, total = torch.ones(10), torch.arange(10.0), torch.empty(10)
    add(a, b, total, 10, torch.get_num_threads())
    return total.tolist()


def compiled(folder):
    return [*(folder / "cache" / "native").rglob("*.so")]


@needs_compiler
def test_what_was_damaged_in_the_cache_is_compiled_again(source, tmp_path, caplog):
    added(source)
    (library,) = compiled(tmp_path)
    whole = library.read_bytes()
    for damage in (whole[: len(whole) // 2], whole[:-100] + bytes(100), b""):
        library.unlink()  # the file that is loaded stays as it is
        library.write_bytes(damage)
        native._library.cache_clear()
        native._function.cache_clear()
        assert added(source) == [i + 1.0 for i in range(10)]
        assert library.read_bytes() == whole
    assert caplog.text.count("is not what was written there; it is built again") == 3


@needs_compiler
def test_a_compiled_function_runs_on_all_threads_and_is_kept(source, tmp_path):
    assert added(source) == [i + 1.0 for i in range(10)]
    assert len(compiled(tmp_path)) == 1
    assert native.library(source) is native.library(source)


@needs_compiler
def test_no_second_openmp_runtime_is_loaded_and_denormals_stay(source):
    added(source)
    with open("/proc/self/maps") as maps:
        runtimes = {line.split()[-1] for line in maps if "libgomp" in line or "libiomp" in line}
    assert len(runtimes) <= 1
    assert (torch.tensor(1e-40) * 0.5).item() > 0


@needs_compiler
def test_a_changed_source_is_compiled_anew(source, tmp_path):
    added(source)
    changed = tmp_path / "changed.cpp"
    changed.write_text(ADD.replace("a[i] + b[i]", "a[i] - b[i]"))
    assert added(changed) == [1.0 - i for i in range(10)]


@needs_compiler
def test_processes_that_compile_at_once_do_not_disturb_each_other(source, tmp_path):
    code = (
        "import sys, torch; from pathlib import Path; from strop.core import native\n"
        f"assert native.library(Path({str(source)!r})) is not None"
    )
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(subprocess.run, [sys.executable, "-c", code]) for _ in range(2)]
    assert [run.result().returncode for run in runs] == [0, 0]
    assert len(compiled(tmp_path)) == 1


@needs_compiler
def test_a_file_that_does_not_compile_is_left_out_with_the_reason(tmp_path, source, caplog):
    broken = tmp_path / "broken.cpp"
    broken.write_text("this is not C++")
    with caplog.at_level(logging.WARNING):
        assert native.library(broken) is None
        assert native.library(broken) is None
    assert caplog.text.count("broken.cpp is not used, plain PyTorch is") == 1
    assert "error" in caplog.text


@needs_compiler
@pytest.mark.skipif(prebuilt.level() is None, reason="needs a processor of x86-64-v3 or more")
def test_without_a_compiler_the_code_of_the_wheel_is_used_unless_the_source_changed(
    source, tmp_path, monkeypatch
):
    folder = tmp_path / "wheel" / prebuilt.level()
    folder.mkdir(parents=True)
    flags, _ = prebuilt.LEVELS[prebuilt.level()]
    prebuilt.compile_library(env.CXX, source, flags, folder / f"{prebuilt.digest(source)}.so")
    code = (
        "import sys; from pathlib import Path; from strop.core.native import prebuilt\n"
        f"prebuilt.FOLDER = Path({str(tmp_path / 'wheel')!r})\n"
        "import torch; from strop.core import native\n"
        f"source = Path({str(source)!r})\n"
        "add = native.function(source, 'add', 'pppqi')\n"
        "a, total = torch.ones(10), torch.empty(10); add(a, a, total, 10, 1); print(total.sum())\n"
        "source.write_text(source.read_text() + '//'); native._library.cache_clear()\n"
        "print(native.library(source), native.at_hand())"
    )
    alone = {"CXX": "/nowhere/g++", "PATH": "/usr/bin:/bin", "STROP_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=alone, capture_output=True, text=True)
    assert done.stdout.split() == ["tensor(20.)", "None", prebuilt.level()], done.stderr


@needs_compiler
def test_it_can_be_switched_off(source, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", False)
    assert native.library(source) is None
    assert native.function(source, "add", "pppqi") is None


def test_a_missing_compiler_is_no_error_and_is_said_once(source):
    code = (
        "import logging; logging.basicConfig(format='%(message)s')\n"
        "from pathlib import Path; from strop.core import native\n"
        f"a = native.library(Path({str(source)!r}))\n"
        "b = native.library(native.prebuilt.HEADERS / 'lanes.h')\n"
        "print(a, b)"
    )
    wrong = {"CXX": "/nowhere/g++", "PATH": "/usr/bin:/bin", "STROP_CACHE": str(source.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=wrong, capture_output=True, text=True)
    assert done.stdout == "None None\n"
    assert done.stderr.count("there is no compiler") == 1


@needs_compiler
@pytest.mark.parametrize(
    ("name", "low", "high", "units"),
    [
        ("exp", -87.0, 88.7, 2),
        ("tanh", -10.0, 10.0, 3),
        ("tanh", -1e-3, 1e-3, 3),
        ("erf", -5.0, 5.0, 2.5),
        ("erf", -1e-3, 1e-3, 2.5),
        ("sigmoid", -87.0, 30.0, 4),
    ],
)
def test_vector_functions_are_right_to_a_few_units_in_the_last_place(
    source, name, low, high, units
):
    source.write_text(MATH)
    x = torch.linspace(low, high, 100_003)
    y = torch.empty_like(x)
    native.function(source, f"apply_{name}", "ppq")(x, y, len(x))
    exact = getattr(torch, name)(x.double())
    spacing = 2.0 ** (exact.abs().log2().floor() - 23).clamp(min=-149)
    assert ((y - exact).abs() / spacing).nan_to_num().max() <= units


@needs_compiler
def test_vector_functions_behave_at_the_ends(source):
    source.write_text(MATH)
    x = torch.tensor([-math.inf, -1e30, -104.0, -95.0, 0.0, 95.0, 1e30, math.inf, math.nan])

    def apply(name):
        y = torch.empty_like(x)
        native.function(source, f"apply_{name}", "ppq")(x, y, len(x))
        return y

    inf, nan = math.inf, math.nan
    same = torch.tensor([0, 0, 0, x.exp()[3], 1, inf, inf, inf, nan])
    torch.testing.assert_close(apply("exp"), same, equal_nan=True, rtol=1e-3, atol=0)
    for name in ("tanh", "erf", "sigmoid"):
        torch.testing.assert_close(
            apply(name), getattr(torch, name)(x), equal_nan=True, atol=1e-38, rtol=0
        )


def test_letters_of_a_signature_are_the_sizes_they_say():
    assert [ctypes.sizeof(native.KINDS[k]) for k in "pqif"] == [8, 8, 4, 4]
