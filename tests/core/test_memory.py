"""Want of memory is recognised in whatever form a library reports it."""

import mmap

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
