"""Rewards of the answers of rows, by a model that learned to reward."""

from collections.abc import Sequence
from typing import Any

from strop.data.message_text import content_text
from strop.data.rows import Message, Row
from strop.evaluation.answers.unanswered import PLACEHOLDER
from strop.runs.reward_model import RewardModel


def rewarded(model: RewardModel, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the reward of each row's answer, and of its rejected one where it has two."""
    pairs = any(row.rejected is not None for row in rows)
    chats = [conversations(row) for row in rows]
    rewards = iter(model.rewards([chat for of_row in chats for chat in of_row]))
    columns: list[dict[str, Any]] = []
    for row, of_chats in zip(rows, chats, strict=True):
        if not of_chats:
            empty = {"reward": None, **({"reward_rejected": None} if pairs else {})}
            columns.append(empty | {"error": "it has no answer to reward"})
            continue
        of_row = {"reward": round(next(rewards), 6)}
        if row.rejected is not None:
            of_row["reward_rejected"] = round(next(rewards), 6)
        columns.append(of_row)
    return columns


def conversations(row: Row) -> list[Sequence[Message]]:
    """Return the conversations of a row that are rewarded: with its answer, and its rejected one."""
    messages = row.messages or []
    if not messages or messages[-1]["role"] != "assistant":
        return []
    if content_text(messages[-1]) == PLACEHOLDER:
        return []
    return [messages] if row.rejected is None else [messages, row.rejected]
