import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.core.errors import ShapeError
from strop.ops.segment_attention.segments import Segments


@st.composite
def forests(draw):
    """Return lengths and parents of segments in depth-first order."""
    lengths, parents, open_segments = [], [], []
    for segment in range(draw(st.integers(0, 8))):
        depth = draw(st.integers(0, len(open_segments)))
        del open_segments[depth:]
        parents.append(open_segments[-1] if open_segments else None)
        lengths.append(draw(st.integers(1, 4)))
        open_segments.append(segment)
    return tuple(lengths), tuple(parents)


@settings(deadline=None)
@given(forests())
def test_offsets_ends_and_ancestors_are_those_of_the_tree(forest):
    lengths, parents = forest
    segments = Segments(lengths, parents)
    below = {
        segment: [r for r in range(len(lengths)) if segment in segments.ancestors(r)]
        for segment in range(len(lengths))
    }
    for segment, length in enumerate(lengths):
        above = [*segments.ancestors(segment)]
        assert above[:1] == [p for p in (parents[segment],) if p is not None]
        assert segments.offsets[segment] == sum(lengths[r] for r in above)
        assert segments.starts[segment] == sum(lengths[:segment])
        tokens = length + sum(lengths[r] for r in below[segment])
        assert segments.ends[segment] == segments.starts[segment] + tokens
    depths = [o + n for o, n in zip(segments.offsets, lengths, strict=True)]
    assert segments.depth_reach() == max(depths, default=0)
    assert segments.size == sum(lengths)


@pytest.mark.parametrize(
    ("parents", "segment", "parent"),
    [
        ((0, None, None), 0, 0),
        ((1, None, None), 0, 1),
        ((None, 5, None), 1, 5),
        ((None, -1, None), 1, -1),
        ((None, None, 0), 2, 0),  # segment 1 stands between a segment and its child
    ],
    ids=["own parent", "parent after child", "no such segment", "negative", "not depth-first"],
)
def test_a_parent_that_does_not_stand_above_is_named(parents, segment, parent):
    with pytest.raises(ShapeError, match=f"segment {segment} does not follow its parent {parent} "):
        Segments((2, 2, 2), parents)


def test_an_empty_run_is_named():
    with pytest.raises(
        ShapeError, match="segment 1 has 0 tokens; every segment holds at least one"
    ):
        Segments((2, 0), (None, 0))


def test_a_run_without_a_parent_entry_is_counted():
    with pytest.raises(ShapeError, match="got 2 lengths and 1 parents"):
        Segments((2, 3), (None,))
