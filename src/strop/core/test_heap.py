import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from strop.core.heap import keep_freed_memory
taken = sys.argv[1] == "kept" and keep_freed_memory()
torch.ones(4_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(4_000_000)
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    taken, count = done.stdout.split()
    return taken == "True", int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_glibc_takes_the_setting_and_faults_no_more_pages_in():
    _, given_back = page_faults("plain")
    taken, kept = page_faults("kept")
    assert taken
    assert kept < 1.2 * given_back
