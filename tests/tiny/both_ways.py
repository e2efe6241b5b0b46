"""One training with strop's acceleration and the plain way, whose logs agree."""

import pytest

import strop
from tests.tiny.saved import in_float32

UNLIKE = {"seconds", "memory", "disk", "accuracy", "epoch"}
"""What a line of the log has that two trainings need not share."""


def trained_both_ways(rows, model, folder, **settings):
    """Return the run with acceleration, after its log was held to that of plain TRL.

    Args:
        rows: to train on.
        model: folder of the model.
        folder: of both runs.
        **settings: of both runs.
    """
    ours, plain = (
        strop.train(rows, **in_float32(model), out=folder / str(way), accelerate=way, **settings)
        for way in (True, False)
    )
    assert len(ours.log) == len(plain.log)
    for line, reference in zip(ours.log, plain.log, strict=True):
        assert line.keys() == reference.keys()
        for name in line.keys() - UNLIKE:
            assert line[name] == pytest.approx(reference[name], rel=1e-4, abs=1e-4)
    return ours
