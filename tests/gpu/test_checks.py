"""The checks of kernels find what they are for: each fault, and nothing in a right kernel."""

import re

import pytest

from strop.testing.gpu.budget import Budget, faults
from tests.gpu import children

pytestmark = pytest.mark.slow

CARDS = ("sm_90", "gfx942")
ANY = {f"gpu.{kernel}": Budget(255, 255) for kernel in ("copy", "product")}
FAULTS = {
    "copy_loading_without_a_mask": "load out of bounds: program (3, 0, 0), 28 element(s)",
    "copy_storing_without_a_mask": "store out of bounds: program (3, 0, 0), 28 element(s)",
    "sum_by_every_program": "race: program (1, 0, 0) reads what another stores in Y, element 0",
    "shift_in_place": "race: program (1, 0, 0) stores what another touches in Y, element 32",
    "add_in_bfloat16": "add in bfloat16: convert to float32 first",
    "copy": "nothing",
}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    child = children.Child(
        ["-m", "tests.gpu.broken", *FAULTS], tmp_path_factory.mktemp("broken"), interpreted=True
    )
    return dict(line.split(": ", 1) for line in child.output().splitlines())


@pytest.mark.parametrize("kernel", FAULTS)
def test_the_interpreter_names_the_fault_of(kernel, interpreted):
    assert FAULTS[kernel] in interpreted[kernel]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    found = children.compiling(
        CARDS, ["tests.gpu.broken"], tmp_path_factory.mktemp("broken")
    ).lines()
    return {(kernel["launch"], kernel["card"]): kernel for kernel in found}


@pytest.mark.parametrize(
    ("launch", "card", "fault"),
    [
        ("far apart", "sm_90", "loads 0% of its bytes 16 at a time, not 90%"),
        ("far apart", "gfx942", "loads 0% of its bytes 16 at a time, not 90%"),
        ("too much for one warp", "sm_90", r"spills \d+ bytes of a thread"),
        ("too much for one warp", "gfx942", r"spills \d+ bytes of a thread"),
        ("right", "sm_90", r"takes \d+ registers, its budget is 4"),
    ],
)
def test_a_budget_that_is_not_kept_is_named(launch, card, fault, compiled):
    kernel = compiled[launch, card]
    (found,) = [
        f for f in faults([kernel], {kernel["kernel"]: Budget(4, 4)}) if re.search(fault, f)
    ]
    assert found.startswith(f"{kernel['kernel']} on {card} for {launch}: ")


def test_more_shared_memory_than_a_card_has_is_a_fault(compiled):
    kernel = {**compiled["right", "sm_90"], "shared": 100_000}
    assert faults([kernel], ANY) == []
    (found,) = faults([{**kernel, "card": "sm_75"}], ANY)
    assert found.endswith("takes 100000 bytes of shared memory, more than the card has")


def test_a_product_without_tensor_cores_is_a_fault(compiled):
    kernel = {**compiled["tensor cores", "sm_90"], "tensor_core_instructions": 0}
    assert "multiplies matrices without tensor cores" in faults([kernel], ANY)[0]
    assert faults([{**kernel, "card": "sm_75"}], ANY) == []  # Turing has none for bfloat16


@pytest.mark.parametrize("launch", ["right", "not aligned", "tensor cores"])
@pytest.mark.parametrize("card", CARDS)
def test_a_right_kernel_keeps_its_budget(launch, card, compiled):
    assert faults([compiled[launch, card]], ANY) == []


def test_a_kernel_that_no_budget_names_is_a_fault(compiled):
    assert faults([compiled["right", "sm_90"]], {}) == ["gpu.copy has no budget"]
