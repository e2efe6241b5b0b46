"""Records the rewards that the trained model gives the conversations of rows."""

import itertools
import math
from collections.abc import Sequence

from strop.core.errors import DataError
from strop.data.rows import Row
from strop.evaluation.answers.rewarded import conversations
from strop.exporting.certify.rewards.limits import ReferenceRewards
from strop.runs.reward_model import RewardModel

ROWS, TOKENS = 64, 32_768
"""Limits of what is compared: rows, and tokens of their conversations."""


def record_rewards(judge: RewardModel, rows: Sequence[Row]) -> ReferenceRewards:
    """Return the rewards of the rows' answers, of pairs both answers'.

    Args:
        judge: the trained model, its weights in float32.
        rows: to compare on; as many of the first as fit the limits.

    Raises:
        DataError: fewer than two answers can be compared.
    """
    texts: list[list[int]] = []
    pairs: list[tuple[int, int]] = []
    for row in rows[:ROWS]:
        of_row = judge.ids(conversations(row))
        if sum(map(len, [*texts, *of_row])) > TOKENS and len(texts) > 1:
            break
        if len(of_row) == 2:
            pairs.append((len(texts), len(texts) + 1))
        texts += of_row
    if len(texts) < 2:
        raise DataError(
            "there are no two answers to compare the exported model's rewards on; give rows with "
            "chosen and rejected answers: --data FILE"
        )
    terms = [judge.terms_of_ids(text).double() for text in texts]
    squares = [float(each.square().sum() + each.sum().square()) for each in terms]
    return ReferenceRewards(
        texts=texts,
        rewards=judge.rewards_of_texts(texts),
        pairs=pairs or list(itertools.combinations(range(len(texts)), 2)),
        pad=judge.tokenizer.pad_token_id,
        size=math.sqrt(sum(squares) / len(squares)),
        blocks=judge.blocks,
    )
