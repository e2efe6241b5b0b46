import pytest
import torch

from strop.quantization.error_adapter import correction
from strop.quantization.gram import damped


def parts(E=40, D=24):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(300, D, generator=rng) * torch.linspace(0.1, 3, D)
    return torch.randn(E, D, generator=rng), x.T @ x / len(x)


def left(error, gram):
    return float((error @ damped(gram) * error).sum())


@pytest.mark.parametrize("rank", [1, 8, 24])
def test_no_matrix_of_the_rank_leaves_less_of_the_output_wrong(rank):
    error, gram = parts()
    adapter = correction(error, gram, rank)
    assert adapter.a.shape == (rank, 24)
    assert adapter.b.shape == (40, rank)
    root = torch.linalg.cholesky(damped(gram.double()))
    least = torch.linalg.svdvals(error.double() @ root)[rank:].square().sum()
    rest = left(error - adapter.b @ adapter.a, gram)
    assert rest == pytest.approx(float(least), rel=1e-2, abs=1e-6 * left(error, gram))


def test_it_is_the_same_each_time_and_leaves_the_random_state_alone():
    error, gram = parts()
    state = torch.random.get_rng_state()
    first, second = correction(error, gram, 4), correction(error, gram, 4)
    assert torch.equal(first.a, second.a)
    assert torch.equal(state, torch.random.get_rng_state())


def test_rows_of_a_see_inputs_as_large_as_an_ordinary_start_does():
    error, gram = parts()
    adapter = correction(error, gram, 8)
    seen = adapter.a @ damped(gram) @ adapter.a.T
    rng = torch.Generator().manual_seed(0)
    ordinary = torch.empty(1000, 24)
    torch.nn.init.kaiming_uniform_(ordinary, a=5**0.5, generator=rng)  # as PEFT starts A
    usual = float((ordinary @ gram * ordinary).sum(1).mean())
    torch.testing.assert_close(seen, usual * torch.eye(8), rtol=0.1, atol=1e-3 * usual)
