import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.core.system.spill import Spill

FULL = """
import resource, torch
from strop.core.errors import UnsupportedError
from strop.core.system.spill import Spill

spill = Spill()
small = torch.arange(1000.0)
place = spill.put(small)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
try:
    spill.put(torch.zeros(1000))
except UnsupportedError as e:
    print(e)
following = spill.put(torch.ones(10))
assert torch.equal(spill.take(following), torch.ones(10))
assert torch.equal(spill.take(place), small)
"""


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_a_tensor_comes_back_bit_by_bit(dtype):
    spill = Spill()
    x = (1000 * torch.randn(7, 30, generator=torch.Generator().manual_seed(0))).to(dtype)
    for tensor in (x, x[:, ::3], x.T, x[0], x[:1, :1], x[:0]):
        read = spill.take(spill.put(tensor))
        assert read.dtype == dtype
        assert torch.equal(read, tensor)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(1, 50)), max_size=30))
def test_last_in_is_first_out_and_the_file_grows_no_larger_than_what_it_holds(steps):
    spill, stack = Spill(), []
    for size in steps:
        if size is not None:
            x = torch.randn(size)
            stack.append((spill.put(x), x))
        elif stack:
            place, x = stack.pop()
            assert torch.equal(spill.take(place), x)
        probe = spill.put(torch.zeros(1))
        assert probe.offset == sum(x.nbytes for _, x in stack)
        spill.take(probe)
    for place, x in reversed(stack):
        assert torch.equal(spill.take(place), x)


def test_a_full_disk_names_the_remedy_and_leaves_what_was_put_before():
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "activations='offload' needs room in " in done.stdout
    assert "free some, set TMPDIR, or use activations='checkpoint'" in done.stdout


def test_the_file_has_no_name_and_goes_with_the_object(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spill = Spill()
    spill.put(torch.zeros(10))
    assert not [*tmp_path.iterdir()]
