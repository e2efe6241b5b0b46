import platform
import subprocess
import sys

import pytest

CODE = """
import torch
from pathlib import Path
from strop.core.system.heap import LARGE, return_large_blocks

def resident():
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("RssAnon")).split()[1]) * 1024

def holes():
    blocks = [torch.ones(LARGE // 2) for _ in range(20)]  # 2 MB each
    before = resident()
    del blocks[0:20:2]
    return (before - resident()) / (10 * 2 * LARGE)

torch.ones(16 << 20).sum()
assert return_large_blocks()
print(holes())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries are left alone")
def test_memory_of_freed_blocks_goes_back_while_later_ones_are_in_use():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.95
