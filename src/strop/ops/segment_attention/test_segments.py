import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.core.errors import ShapeError
from strop.ops.segment_attention.segments import Segments


@st.composite
def forests(draw):
    """Return lengths and parents of runs in depth-first order."""
    lengths, parents, open_runs = [], [], []
    for run in range(draw(st.integers(0, 8))):
        depth = draw(st.integers(0, len(open_runs)))
        del open_runs[depth:]
        parents.append(open_runs[-1] if open_runs else None)
        lengths.append(draw(st.integers(1, 4)))
        open_runs.append(run)
    return tuple(lengths), tuple(parents)


@settings(deadline=None)
@given(forests())
def test_offsets_ends_and_ancestors_are_those_of_the_tree(forest):
    lengths, parents = forest
    segments = Segments(lengths, parents)
    below = {
        run: [r for r in range(len(lengths)) if run in segments.ancestors(r)]
        for run in range(len(lengths))
    }
    for run, length in enumerate(lengths):
        above = [*segments.ancestors(run)]
        assert above[:1] == [p for p in (parents[run],) if p is not None]
        assert segments.offsets[run] == sum(lengths[r] for r in above)
        assert segments.starts[run] == sum(lengths[:run])
        tokens = length + sum(lengths[r] for r in below[run])
        assert segments.ends[run] == segments.starts[run] + tokens
    depths = [o + n for o, n in zip(segments.offsets, lengths, strict=True)]
    assert segments.depth_reach() == max(depths, default=0)
    assert segments.size == sum(lengths)


@pytest.mark.parametrize(
    ("parents", "run", "parent"),
    [
        ((0, None, None), 0, 0),
        ((1, None, None), 0, 1),
        ((None, 5, None), 1, 5),
        ((None, -1, None), 1, -1),
        ((None, None, 0), 2, 0),  # run 1 stands between a run and its child
    ],
    ids=["own parent", "parent after child", "no such run", "negative", "not depth-first"],
)
def test_a_parent_that_does_not_stand_above_is_named(parents, run, parent):
    with pytest.raises(ShapeError, match=f"run {run} does not follow its parent {parent} "):
        Segments((2, 2, 2), parents)


def test_an_empty_run_is_named():
    with pytest.raises(ShapeError, match="run 1 has 0 tokens; every run holds at least one"):
        Segments((2, 0), (None, 0))


def test_a_run_without_a_parent_entry_is_counted():
    with pytest.raises(ShapeError, match="got 2 lengths and 1 parents"):
        Segments((2, 3), (None,))
