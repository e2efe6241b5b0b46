"""Sentences about parts of the data that are cut, divided or left out."""

from collections.abc import Mapping
from typing import Any

from strop.data.encoding.parts import LEFT_OUT
from strop.data.rows import format_lines


def left_out(facts: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each way in which rows are not learned as they are."""
    sentences = []
    if lines := facts["cut_lines"]:
        sentences.append(
            f"{format_lines(lines)} cut to max_length, {facts['max_length']:,} tokens: "
            f"{facts['cut_tokens']:,} tokens are not seen; the longest row has "
            f"{facts['longest_row']:,}"
        )
    if lines := facts["divided_lines"]:
        sentences.append(
            f"{format_lines(lines)} longer than max_length, {facts['max_length']:,} tokens: "
            "learned in pieces of that length"
        )
    for kind, lines in facts["dropped_lines"].items():
        count = "1 row" if len(lines) == 1 else f"{len(lines):,} rows"
        sentences.append(
            f"the chat template leaves out {LEFT_OUT[kind]} in {count}, {format_lines(lines[:50])}"
        )
    if lines := facts["merged_lines"]:
        sentences.append(f"{format_lines(lines)}: an answer in several messages is learned as one")
    if lines := facts["unwanted_lines"]:
        sentences.append(
            f"{format_lines(lines)} left out: the data says that the answer is not wanted"
        )
    return sentences
