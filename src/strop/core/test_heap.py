import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from strop.core.heap import keep_freed_memory
kept = sys.argv[1] == "kept" and keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(4_000_000)
before = faults()
for _ in range(20):
    torch.ones(4_000_000)
print(kept, faults() - before)
"""


def page_faults(how):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the setting")
def test_memory_that_is_kept_is_not_faulted_in_again():
    _, given_back = page_faults("plain")
    taken, kept = page_faults("kept")
    assert not taken or kept < given_back / 4
