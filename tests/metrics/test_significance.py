import pytest

from strop.metrics.significance import holm, mcnemar, rows_needed, t_quantile, t_two_sided


def test_students_t_has_its_tabled_values():
    tabled = {1: 12.706205, 2: 4.302653, 5: 2.570582, 10: 2.228139, 30: 2.042272, 120: 1.979930}
    for degrees, quantile in tabled.items():
        assert t_quantile(degrees) == pytest.approx(quantile, abs=1e-6)
        assert t_two_sided(quantile, degrees) == pytest.approx(0.05, abs=1e-6)
    assert t_quantile(10**6) == pytest.approx(1.959964, abs=1e-6)


def test_mcnemars_test_is_that_of_a_fair_coin():
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert mcnemar(5, 5) == 1
    assert 0 < mcnemar(400, 600) < 1e-9


def test_holms_correction_multiplies_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]


def test_half_the_difference_needs_four_times_the_rows():
    whole, half = rows_needed(0.1, 0.05, 300), rows_needed(0.05, 0.05, 300)
    assert half == pytest.approx(4 * whole, abs=4)
    assert rows_needed(0.0, 0.05, 300) is None
