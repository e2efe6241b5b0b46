import dataclasses
import math

import pytest
import torch

from strop.core import env
from strop.core.errors import ShapeError, UnsupportedError
from strop.ops.dequantize import IMPLS, dequantize
from strop.ops.dequantize.cases import TESTED, Case
from strop.ops.dequantize.packed import Packed, code_bytes, pack, unpack

bnb = pytest.importorskip("bitsandbytes.functional")


@pytest.mark.parametrize("case", TESTED, ids=str)
@pytest.mark.parametrize("native", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_is_bit_equal_to_the_reference(case, native, dtype, monkeypatch):
    monkeypatch.setattr(env, "NATIVE", native)
    weight = case.weight()
    expected = dequantize(weight, dtype=dtype, impl="reference")
    assert torch.equal(dequantize(weight, dtype=dtype, impl="cpu"), expected)


@pytest.mark.parametrize("case", [c for c in TESTED if c.E * c.D < 1 << 18], ids=str)
@pytest.mark.parametrize("impl", ["triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_is_bit_equal_to_the_reference_on_a_gpu(impl, case, dtype, device_for):
    weight = case.weight(device_for(impl))
    expected = dequantize(weight, dtype=dtype, impl="reference")
    assert torch.equal(dequantize(weight, dtype=dtype, impl=impl), expected)


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_codes_come_back_as_they_were_packed(bits):
    codes = torch.randint(0, 2**bits, (80,))
    packed = pack(codes, bits)
    assert packed.numel() == code_bytes(80, bits) == 80 * bits // 8
    assert torch.equal(unpack(packed, bits, 80), codes.int())


@pytest.mark.parametrize("impl", [i.name for i in IMPLS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("group", [64, 128])
def test_nf4_is_bit_equal_to_bitsandbytes(impl, dtype, nested, group, device_for):
    rng = torch.Generator().manual_seed(1)
    w = torch.randn(300, 256, generator=rng).to(device_for(impl), dtype)
    codes, state = bnb.quantize_4bit(w, blocksize=group, compress_statistics=nested,
                                     quant_type="nf4")  # fmt: skip
    inner = state.state2
    weight = Packed(
        codes=codes, table=state.code, scale_codes=state.absmax,
        scale_table=inner.code if nested else None, factors=inner.absmax if nested else None,
        shape=w.shape, bits=4, group=group, offset=float(state.offset) if nested else 0.0,
    )  # fmt: skip
    assert torch.equal(
        dequantize(weight, dtype=dtype, impl=impl), bnb.dequantize_4bit(codes, state)
    )


@pytest.mark.parametrize("case", TESTED, ids=str)
def test_rows_are_those_of_the_whole_weight(case):
    weight = case.weight()
    unit = case.group // math.gcd(case.group, case.D)
    whole = dequantize(weight)
    for start in range(0, case.E, unit):
        for stop in (start + 1, case.E):
            assert torch.equal(dequantize(weight.rows(start, stop)), whole[start:stop])


def test_rows_that_begin_inside_a_group_are_refused():
    with pytest.raises(ShapeError, match="row 1 of 33 begins inside a group of 64"):
        Case(67, 33).weight().rows(1, 2)


def test_writes_into_the_buffer_it_is_given():
    weight, out = Case(40, 96, 5, 32).weight(), torch.empty(40, 96)
    assert dequantize(weight, out=out) is out
    assert torch.equal(out, dequantize(weight))


def test_parts_that_do_not_fit_are_named_with_their_sizes():
    weight = Case(40, 96, 5, 32).weight()
    short = dataclasses.replace(weight, codes=weight.codes[1:])
    with pytest.raises(ShapeError, match=r"weight \[40, 96\] do not fit: codes has 2399, not 2400"):
        dequantize(short)
    with pytest.raises(ShapeError, match=r"out is \[96, 40\]"):
        dequantize(weight, out=torch.empty(96, 40))


def test_an_unknown_implementation_is_named():
    with pytest.raises(UnsupportedError, match="impl='gpu' is not known"):
        dequantize(Case(1, 1).weight(), impl="gpu")
