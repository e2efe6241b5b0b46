"""Sizes and times as people write them: 1500MB, 4GB, 20m, 1h30m."""

import re

_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])[a-z]*\s*", re.IGNORECASE)


def size_in_bytes(text: str) -> int | None:
    """Return the bytes of a size such as `1500MB`, `4GB` or `3GiB`; None if the text is none."""
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        return None
    scale = _BINARY if match[3] else _SIZES
    return round(float(match[1]) * scale[match[2].upper()])


def time_in_seconds(text: str) -> float | None:
    """Return the seconds of a time such as `90s`, `20m` or `1h30m`; None if the text is none."""
    parts = _TIME.findall(text)
    if not parts or _TIME.sub("", text).strip():
        return None
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)
