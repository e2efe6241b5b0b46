"""Every Triton kernel without a GPU: its numbers under the interpreter, its needs on every card."""

import pytest

from strop.testing.gpu import budget
from tests.gpu import children

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The tests of operations and of halves of blocks, interpreted; the launches, compiled."""
    words = ["-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-rA"]
    operations = [f"src/strop/ops/{name}" for name in children.OPERATIONS]
    interpreted, halves = (
        children.Child([*words, *tested], tmp_path_factory.mktemp("interpreted"), interpreted=True)
        for tested in (operations, ["tests/gpu/test_card.py"])
    )
    modules = [f"strop.ops.{name}.launches" for name in children.OPERATIONS]
    compiling = [
        children.compiling(cards, modules, tmp_path_factory.mktemp("compiled"))
        for cards in children.CARDS
    ]
    yield interpreted, halves, compiling
    for child in (interpreted, halves, *compiling):
        child.kill()


@pytest.fixture(scope="module")
def kernels(started):
    """What each kernel needs of each card."""
    return [kernel for child in started[2] for kernel in child.lines()]


def test_every_operation_with_kernels_agrees_with_its_reference_under_the_interpreter(started):
    report = started[0].output()
    untested = [n for n in children.OPERATIONS if f"PASSED src/strop/ops/{n}/" not in report]
    assert not untested, report[-2000:]


def test_halves_of_blocks_err_no_more_under_the_interpreter_than_on_a_cpu(started):
    assert "PASSED tests/gpu/test_card.py" in started[1].output()


@pytest.mark.parametrize("card", [card for cards in children.CARDS for card in cards])
def test_every_kernel_keeps_its_budget(card, kernels):
    found = budget.faults(
        [k for k in kernels if k["card"] == card],
        budget.read(children.ROOT / "tests/gpu/budget.toml"),
    )
    assert not found, "\n".join(found)


def test_no_budget_is_left_of_a_kernel_that_is_gone(kernels):
    budgets = budget.read(children.ROOT / "tests/gpu/budget.toml")
    assert set(budgets) == {kernel["kernel"] for kernel in kernels}
