"""Texts from data as people see them."""

import re

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Return a text from data with control characters escaped, as `\x1b`."""
    return _UNSEEN.sub(lambda match: ascii(match.group())[1:-1], text)
