"""Labels and forms repeat, free text does not."""

import pytest

from strop.data.repetition import repeated_share

LABELS = [[7, 2], [8, 2], [7, 2], [7, 2], [8, 2]]


@pytest.mark.parametrize(
    ("answers", "share"),
    [
        ([], 0.0),
        ([[]], 0.0),
        ([[1, 2, 3]], 0.0),
        (LABELS, 6 / 10),
        ([[1, 2, 3], [3, 2, 1]], 0.0),
        ([[1, 2, 3, 4], [1, 2, 5, 4]], 2 / 8),
        ([[4, 4, 4, 4, 4]], 0.0),  # within one answer nothing repeats
    ],
)
def test_what_followed_the_same_two_tokens_in_an_earlier_answer_is_counted(answers, share):
    assert repeated_share(answers) == pytest.approx(share)
