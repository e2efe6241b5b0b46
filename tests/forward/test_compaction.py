import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.core.errors import ShapeError
from strop.core.tokens import IGNORE_INDEX
from strop.forward import compaction as kept_tokens
from strop.forward.compaction import SHORTEST_PREFIX, keep_tokens

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
    kept = mask.nonzero()[:, 0].tolist()
    begin = {}
    for t in kept:
        restarts = t == kept[0] or positions[t] != positions[t - 1] + 1
        begin[t] = t if restarts else begin[t - 1]
    return begin


def paths(piece):
    """Return for each token of a piece the tokens it sees, itself last."""
    segments, found = piece.segments, []
    for run, (start, length) in enumerate(zip(segments.starts, segments.lengths, strict=True)):
        parent = segments.parents[run]
        above = []
        if parent is not None:
            above = found[segments.starts[parent] + segments.lengths[parent] - 1]
        for t in range(start, start + length):
            above = [*above, t]
            found.append(above)
    return found


def needed(ids, labels, mask, positions):
    """Return for each labelled slot its label and the tokens and positions that predict it."""
    T, wanted = ids.shape[1], {}
    for b in range(len(ids)):
        begin = documents(positions[b], mask[b])
        for t in (labels[b, 1:] != IGNORE_INDEX).nonzero()[:, 0].tolist():
            span = slice(begin[t], t + 1)
            slot = b * (T - 1) + t
            wanted[slot] = (
                labels[b, t + 1].item(),
                ids[b, span].tolist(),
                positions[b, span].tolist(),
            )
    return wanted


def without_sharing(wanted, T):
    """Return how many tokens are needed if no row shares with another."""
    longest = {}
    for slot, (_, tokens, _) in wanted.items():
        b, t = divmod(slot, T - 1)
        document = b, t + 1 - len(tokens)
        longest[document] = max(longest.get(document, 0), len(tokens))
    return sum(longest.values())


@settings(max_examples=300, deadline=None)
@given(batches(), st.sampled_from(SHORT), st.one_of(st.none(), st.integers(0, 12)), st.booleans())
def test_every_label_is_predicted_from_its_own_prefix_within_the_budget(
    batch, shortest, less, share
):
    """`less` is how far the budget lies below what the batch takes in one piece."""
    ids, labels, mask, positions = batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_tokens, "SHORTEST_PREFIX", shortest)
        pieces = keep_tokens(ids, labels, mask, positions, share=share)
        budget = None if less is None else max(1, sum(len(p.tokens) for p in pieces) - less)
        if budget is not None:
            pieces = keep_tokens(ids, labels, mask, positions, budget=budget, share=share)
    wanted = needed(*batch)
    found = {}
    for piece in pieces:
        seen = paths(piece)
        assert len(seen) == len(piece.tokens) == len(piece.positions) == piece.segments.size
        for row, target, slot in zip(
            piece.rows.tolist(), piece.targets.tolist(), piece.slots.tolist(), strict=True
        ):
            assert slot not in found
            path = seen[row]
            found[slot] = (target, piece.tokens[path].tolist(), piece.positions[path].tolist())
    assert found == wanted
    total = sum(len(piece.tokens) for piece in pieces)
    most = without_sharing(wanted, ids.shape[1])
    assert total <= most if share else total == most
    for piece in pieces:
        T = ids.shape[1]
        rows = {
            (slot // (T - 1), slot % (T - 1) + 1 - len(wanted[slot][1]))
            for slot in piece.slots.tolist()
        }
        assert budget is None or len(rows) == 1 or len(piece.tokens) <= budget


@settings(max_examples=100, deadline=None)
@given(batches(packed=False), st.sampled_from(SHORT))
def test_each_run_that_is_shared_has_the_shortest_length_and_no_prefix_is_laid_twice(
    batch, shortest
):
    ids, labels, mask, positions = batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_tokens, "SHORTEST_PREFIX", shortest)
        pieces = keep_tokens(ids, labels, mask, positions)
    if not pieces:
        return
    (piece,) = pieces
    segments, seen = piece.segments, paths(piece)
    parents = {p for p in segments.parents if p is not None}
    assert all(segments.lengths[run] >= shortest for run in parents)
    if shortest == 1:
        everything = [tuple(piece.tokens[path].tolist()) for path in seen]
        assert len(set(everything)) == len(everything)


@settings(max_examples=60, deadline=None)
@given(batches(holes=True, packed=False))
def test_a_hole_in_a_row_with_labels_gives_none(batch):
    ids, labels, mask, _ = batch
    broken = False
    for row, own in zip(labels, mask, strict=True):
        kept = own.nonzero()[:, 0]
        scored = (row[1:] != IGNORE_INDEX).any()
        broken |= bool(scored and kept[-1] - kept[0] + 1 != len(kept))
    assert (keep_tokens(ids, labels, mask) is None) == broken


def batch_of(*rows, prompt=0):
    ids = torch.tensor(rows)
    labels = ids.clone()
    labels[:, :prompt] = IGNORE_INDEX
    return ids, labels


def test_a_label_predicted_by_padding_gives_none():
    ids, labels = batch_of([0, 0, 5, 6, 7])
    assert keep_tokens(ids, labels, torch.tensor([[0, 0, 1, 1, 1]])) is None
    labels[0, :3] = IGNORE_INDEX
    assert keep_tokens(ids, labels, torch.tensor([[0, 0, 1, 1, 1]])) is not None


def test_a_row_of_padding_alone_is_dropped_or_gives_none_if_it_has_labels():
    ids, labels = batch_of([1, 2, 3], [0, 0, 0])
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    assert keep_tokens(ids, labels, mask) is None
    labels[1] = IGNORE_INDEX
    assert [piece.tokens.tolist() for piece in keep_tokens(ids, labels, mask)] == [[1, 2]]


def test_nothing_is_kept_of_a_batch_without_labels():
    ids = torch.tensor([[1, 2, 3]])
    assert keep_tokens(ids, torch.full_like(ids, IGNORE_INDEX)) == []
    assert keep_tokens(ids[:, :1], ids[:, :1]) == []  # no token stands before the only label


def test_answers_to_one_prompt_share_it_and_short_prefixes_are_not_shared():
    prompt = [*range(10, 10 + SHORTEST_PREFIX)]
    ids, labels = batch_of([*prompt, 1, 2, 3], [*prompt, 4, 5, 6], prompt=SHORTEST_PREFIX)
    (piece,) = keep_tokens(ids, labels)
    assert piece.segments.lengths == (SHORTEST_PREFIX, 2, 2)
    assert piece.segments.parents == (None, 0, 0)
    (piece,) = keep_tokens(ids, labels, share=False)
    assert piece.segments.lengths == (SHORTEST_PREFIX + 2,) * 2
    (piece,) = keep_tokens(ids[:, 1:], labels[:, 1:])
    assert piece.segments.parents == (None, None)


def test_a_budget_below_one_row_gives_each_row_a_piece():
    ids, labels = batch_of([1, 2, 3, 4], [5, 6, 7, 8])
    pieces = keep_tokens(ids, labels, budget=1)
    assert [piece.tokens.tolist() for piece in pieces] == [[1, 2, 3], [5, 6, 7]]


@pytest.mark.parametrize("name", ["labels", "attention_mask"])
def test_tensors_that_do_not_fit_are_named(name):
    ids = torch.ones(2, 5, dtype=torch.int64)
    given = {"labels": ids, "attention_mask": ids} | {name: ids[:, :4]}
    with pytest.raises(ShapeError, match=rf"{name} of the shape .* \[2, 5\]; got \[2, 4\]"):
        keep_tokens(ids, **given)
