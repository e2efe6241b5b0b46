import numpy as np
import pytest

from strop.core.tokens import common_prefix


@pytest.mark.parametrize("kind", [list, np.array, "".join], ids=["lists", "arrays", "texts"])
@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [("", "", 0), ("", "ab", 0), ("abc", "abd", 2), ("abc", "ab", 2), ("abc", "abc", 3)],
)
def test_common_prefix_ends_at_the_first_difference_or_with_the_shorter(kind, a, b, shared):
    assert common_prefix(kind(list(a)), kind(list(b))) == shared
    assert common_prefix(kind(list(b)), kind(list(a))) == shared
