import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.core.errors import ShapeError
from strop.core.tokens import IGNORE_INDEX
from strop.forward import compaction
from strop.forward.compaction import SHORTEST_PREFIX, compact_batch

SHORT = (1, 2, 3, 5)
"""Shortest prefixes under test: small ones make small batches that share in many ways."""


@st.composite
def batches(draw, *, holes=False, packed=True):
    """Return input_ids, labels, mask, position_ids of rows that often begin alike."""
    B, T = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    token = st.integers(1, 2)
    rows = []
    ids, labels, mask = (torch.zeros(B, T, dtype=torch.int64) for _ in range(3))
    positions = torch.zeros_like(ids)
    for b in range(B):
        n = draw(st.integers(T // 2 + 1, T))
        first = 0 if draw(st.booleans()) else T - n
        like = draw(st.sampled_from(rows))[: draw(st.integers(0, n))] if rows else []
        rest = n - len(like)
        rows.append([*like, *draw(st.lists(token, min_size=rest, max_size=rest))])
        ids[b, first : first + n] = torch.tensor(rows[-1])
        mask[b, first : first + n] = 1
        if holes and n > 2:
            mask[b, first + draw(st.integers(1, n - 2))] = 0
        every = draw(st.sampled_from((1, 1, 2, 5)))
        scored = torch.arange(T)[first + every : first + n : every]
        labels[b] = IGNORE_INDEX
        labels[b, scored] = ids[b, scored]
        place = torch.arange(T) - first
        restart = draw(st.integers(1, n)) if packed and draw(st.booleans()) else n
        positions[b] = torch.where(place < restart, place, place - restart)
    return ids, labels, mask, positions


def documents(positions, mask):
    """Return for each token of one row where its document begins."""
    present = mask.nonzero()[:, 0].tolist()
    begin = {}
    for t in present:
        restarts = t == present[0] or positions[t] != positions[t - 1] + 1
        begin[t] = t if restarts else begin[t - 1]
    return begin


def paths(batch):
    """Return for each token of a micro-batch the tokens it sees, itself last."""
    segments, seen = batch.segments, []
    for i, (start, length) in enumerate(zip(segments.starts, segments.lengths, strict=True)):
        parent = segments.parents[i]
        above = []
        if parent is not None:
            above = seen[segments.starts[parent] + segments.lengths[parent] - 1]
        for t in range(start, start + length):
            above = [*above, t]
            seen.append(above)
    return seen


def needed(ids, labels, mask, positions):
    """Return for each labelled slot its label and the tokens and positions that predict it."""
    T, expected = ids.shape[1], {}
    for b in range(len(ids)):
        begin = documents(positions[b], mask[b])
        for t in (labels[b, 1:] != IGNORE_INDEX).nonzero()[:, 0].tolist():
            span = slice(begin[t], t + 1)
            slot = b * (T - 1) + t
            expected[slot] = (
                labels[b, t + 1].item(),
                ids[b, span].tolist(),
                positions[b, span].tolist(),
            )
    return expected


def without_sharing(expected, T):
    """Return how many tokens are needed if no row shares with another."""
    longest = {}
    for slot, (_, tokens, _) in expected.items():
        b, t = divmod(slot, T - 1)
        document = b, t + 1 - len(tokens)
        longest[document] = max(longest.get(document, 0), len(tokens))
    return sum(longest.values())


@settings(max_examples=300, deadline=None)
@given(batches(), st.sampled_from(SHORT), st.one_of(st.none(), st.integers(0, 12)), st.booleans())
def test_every_label_is_predicted_from_its_prefix_within_the_budget(batch, shortest, less, share):
    """`less` is the distance of the budget from the tokens of the batch in one micro-batch."""
    ids, labels, mask, positions = batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "SHORTEST_PREFIX", shortest)
        micro_batches = compact_batch(ids, labels, mask, positions, share=share)
        budget = None if less is None else max(1, sum(len(p.tokens) for p in micro_batches) - less)
        if budget is not None:
            micro_batches = compact_batch(ids, labels, mask, positions, budget=budget, share=share)
    expected = needed(*batch)
    predicted = {}
    for micro_batch in micro_batches:
        seen = paths(micro_batch)
        assert (
            len(seen)
            == len(micro_batch.tokens)
            == len(micro_batch.positions)
            == micro_batch.segments.size
        )
        for row, target, slot in zip(
            micro_batch.rows.tolist(),
            micro_batch.targets.tolist(),
            micro_batch.slots.tolist(),
            strict=True,
        ):
            assert slot not in predicted
            path = seen[row]
            predicted[slot] = (
                target,
                micro_batch.tokens[path].tolist(),
                micro_batch.positions[path].tolist(),
            )
    assert predicted == expected
    total = sum(len(micro_batch.tokens) for micro_batch in micro_batches)
    most = without_sharing(expected, ids.shape[1])
    assert total <= most if share else total == most
    for micro_batch in micro_batches:
        T = ids.shape[1]
        rows = {
            (slot // (T - 1), slot % (T - 1) + 1 - len(expected[slot][1]))
            for slot in micro_batch.slots.tolist()
        }
        assert budget is None or len(rows) == 1 or len(micro_batch.tokens) <= budget


@settings(max_examples=100, deadline=None)
@given(batches(packed=False), st.sampled_from(SHORT))
def test_each_segment_that_is_shared_has_the_shortest_length_and_no_prefix_comes_twice(
    batch, shortest
):
    ids, labels, mask, positions = batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "SHORTEST_PREFIX", shortest)
        micro_batches = compact_batch(ids, labels, mask, positions)
    if not micro_batches:
        return
    (micro_batch,) = micro_batches
    segments, seen = micro_batch.segments, paths(micro_batch)
    parents = {p for p in segments.parents if p is not None}
    assert all(segments.lengths[i] >= shortest for i in parents)
    if shortest == 1:
        everything = [tuple(micro_batch.tokens[path].tolist()) for path in seen]
        assert len(set(everything)) == len(everything)


@settings(max_examples=60, deadline=None)
@given(batches(holes=True, packed=False))
def test_a_hole_in_a_row_with_labels_gives_none(batch):
    ids, labels, mask, _ = batch
    broken = False
    for row, present in zip(labels, mask, strict=True):
        at = present.nonzero()[:, 0]
        scored = (row[1:] != IGNORE_INDEX).any()
        broken |= bool(scored and at[-1] - at[0] + 1 != len(at))
    assert (compact_batch(ids, labels, mask) is None) == broken


def batch_of(*rows, prompt=0):
    ids = torch.tensor(rows)
    labels = ids.clone()
    labels[:, :prompt] = IGNORE_INDEX
    return ids, labels


def test_a_label_predicted_by_padding_gives_none():
    ids, labels = batch_of([0, 0, 5, 6, 7])
    assert compact_batch(ids, labels, torch.tensor([[0, 0, 1, 1, 1]])) is None
    labels[0, :3] = IGNORE_INDEX
    assert compact_batch(ids, labels, torch.tensor([[0, 0, 1, 1, 1]])) is not None


def test_a_row_of_padding_alone_is_dropped_or_gives_none_if_it_has_labels():
    ids, labels = batch_of([1, 2, 3], [0, 0, 0])
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    assert compact_batch(ids, labels, mask) is None
    labels[1] = IGNORE_INDEX
    assert [micro_batch.tokens.tolist() for micro_batch in compact_batch(ids, labels, mask)] == [
        [1, 2]
    ]


def test_nothing_is_left_of_a_batch_without_labels():
    ids = torch.tensor([[1, 2, 3]])
    assert compact_batch(ids, torch.full_like(ids, IGNORE_INDEX)) == []
    assert compact_batch(ids[:, :1], ids[:, :1]) == []  # no token stands before the only label


def test_answers_to_one_prompt_share_it_and_short_prefixes_are_not_shared():
    prompt = [*range(10, 10 + SHORTEST_PREFIX)]
    ids, labels = batch_of([*prompt, 1, 2, 3], [*prompt, 4, 5, 6], prompt=SHORTEST_PREFIX)
    (micro_batch,) = compact_batch(ids, labels)
    assert micro_batch.segments.lengths == (SHORTEST_PREFIX, 2, 2)
    assert micro_batch.segments.parents == (None, 0, 0)
    (micro_batch,) = compact_batch(ids, labels, share=False)
    assert micro_batch.segments.lengths == (SHORTEST_PREFIX + 2,) * 2
    (micro_batch,) = compact_batch(ids[:, 1:], labels[:, 1:])
    assert micro_batch.segments.parents == (None, None)


def test_a_budget_below_one_row_gives_each_row_a_micro_batch():
    ids, labels = batch_of([1, 2, 3, 4], [5, 6, 7, 8])
    micro_batches = compact_batch(ids, labels, budget=1)
    assert [micro_batch.tokens.tolist() for micro_batch in micro_batches] == [[1, 2, 3], [5, 6, 7]]


@pytest.mark.parametrize("name", ["labels", "attention_mask"])
def test_tensors_that_do_not_fit_are_named(name):
    ids = torch.ones(2, 5, dtype=torch.int64)
    given = {"labels": ids, "attention_mask": ids} | {name: ids[:, :4]}
    with pytest.raises(ShapeError, match=rf"{name} of the shape .* \[2, 5\]; got \[2, 4\]"):
        compact_batch(ids, **given)
