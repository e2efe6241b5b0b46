"""Want of memory is recognised in whatever form a library reports it."""

import mmap
import subprocess
import sys

import pytest
import torch

from strop.core.system.memory import ran_out_of_memory


@pytest.mark.parametrize(
    "ask",
    [lambda: torch.empty(2**55), lambda: bytearray(2**62), lambda: mmap.mmap(-1, 2**62)],
    ids=["torch", "python", "system"],
)
def test_a_report_of_each_library_is_recognised(ask):
    with pytest.raises((MemoryError, RuntimeError, OSError)) as report:
        ask()
    assert ran_out_of_memory(report.value)


def ask_within_another_error():
    try:
        torch.empty(2**55)
    except RuntimeError as e:
        raise ValueError("rows") from e


def test_what_memory_caused_is_recognised_and_other_errors_are_not():
    with pytest.raises(ValueError, match="rows") as report:
        ask_within_another_error()
    assert ran_out_of_memory(report.value)
    assert not ran_out_of_memory(RuntimeError("shapes differ"))
    assert not ran_out_of_memory(None)


LIMITED = """
import resource, sys
import psutil
from strop.cli.app import run
left = psutil.Process().memory_info().vms + 100 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (left, left))
sys.argv = ["strop", "data", "check", sys.argv[1]]
run()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux' own")
def test_a_limit_that_leaves_too_little_is_named_before_any_work(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n')
    command = [sys.executable, "-c", LIMITED, str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("strop: ulimit -v leaves ")
    assert done.stderr.endswith(
        "MB to this process, which needs 268 MB at least; raise the limit\n"
    )
