"""Checks of single texts: secrets, personal data, refusals, broken characters."""

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pattern:
    """Pattern to search for in a text."""

    kind: str
    message: str
    find: Callable[[str], tuple[int, int] | None]
    """Returns start and end of an occurrence, or None."""
    answers: bool = False
    """True if only answers are searched."""


def _search(pattern: str, needs: str, flags: int = 0) -> Callable[[str], tuple[int, int] | None]:
    """Return a search for a pattern, skipped where none of the characters of `needs` occurs."""
    compiled = re.compile(pattern, flags)
    marks = needs.split()

    def find(text: str) -> tuple[int, int] | None:
        for mark in marks:  # any() would take twice the time, and this runs for every text
            if mark in text:
                break
        else:
            return None
        match = compiled.search(text)
        return match.span() if match else None

    return find


_DIGITS = re.compile(r"\d")
_CARD = re.compile(r"(?<![\d.,-])(?:\d[ -]?){12,18}\d(?![\d.,-]?\d)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
_PHONE = re.compile(
    r"(?<![\w.-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{2,4}[ .-])\d{3,4}[ .-]\d{3,5}(?![\w.-]?\d)"
)
_EMAIL = re.compile(
    r"(?<![\w.%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,}"
)
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")


def _luhn(digits: str) -> bool:
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if i % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0 and len(set(digits)) > 1


def _is_iban(text: str) -> bool:
    bare = text.replace(" ", "")
    moved = bare[4:] + bare[:4]
    return 15 <= len(bare) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def _personal(text: str) -> tuple[int, int] | None:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not re.search(r"@(?:[\w-]+\.)*(?:example|test|localhost)\b", match.group()):
                return match.span()
    # Counting digits is much faster than looking for patterns that need some.
    digits = sum(map(text.count, "0123456789")) if text.isascii() else len(_DIGITS.findall(text))
    if digits >= 13:
        for match in _CARD.finditer(text):
            if _luhn(re.sub(r"\D", "", match.group())):
                return match.span()
    if digits >= 2:
        for match in _IBAN.finditer(text):
            if _is_iban(match.group()):
                return match.span()
    number = (_SSN.search(text) or _PHONE.search(text)) if digits >= 8 else None
    return number.span() if number else None


_KEY = _search(
    r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{40,}"
    r"|\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{24,}|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\bAIza[0-9A-Za-z_-]{35}\b|\bhf_[A-Za-z0-9]{30,}\b|\bglpat-[\w-]{20}\b"
    r"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    needs="AKIA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ sk- xox AIza hf_ glpat- PRIVATE eyJ",
)
_PASSWORD = _search(
    r"\b(?:password|passwd|api[_-]?key|secret)\s*[:=]\s*[\"'][^\s\"']{8,}[\"']",
    needs="' \"",
    flags=re.IGNORECASE,
)


def _secret(text: str) -> tuple[int, int] | None:
    if place := _KEY(text):
        return place
    low = text.lower()
    named = "passw" in low or "secret" in low or ("api" in low and "key" in low)
    return _PASSWORD(text) if named else None


def _repeats(text: str) -> tuple[int, int] | None:
    """Locate repetition: such texts compress to almost nothing."""
    if len(text) < 400:
        return None
    raw = text[:20_000].encode("utf-8", "replace")
    return (0, 40) if len(zlib.compress(raw, 1)) < 0.08 * len(raw) else None


_BROKEN = re.compile("Ã[\x80-\xbf]|Â[\xa0-\xbf]|â€[\x80-\xbf™œ˜“”¢¦]|ðŸ|ï»¿|\ufffd")


def _mojibake(text: str) -> tuple[int, int] | None:
    match = None if text.isascii() else _BROKEN.search(text)
    return match.span() if match else None


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufeff]")

_PLACEHOLDERS = frozenset(
    (
        *("nan", "NaN", "NaT", "null", "NULL", "None", "<NA>", "N/A", "#N/A", "#NAME?", "#REF!"),
        *("#VALUE!", "#DIV/0!", "undefined", "TODO", "TBD", "[deleted]", "[removed]", "..."),
    )
)

PATTERNS = (
    Pattern(
        "secrets",
        "hold what looks like a key or a password",
        _secret,
    ),
    Pattern(
        "personal_data",
        "hold what looks like an e-mail address, a telephone, card, account or insurance number",
        _personal,
    ),
    Pattern(
        "refusals",
        "answer with a refusal",
        _search(
            r"\A\W*(?:i'?m|i am|we are|we're)? ?(?:very |so |truly )?(?:sorry|apologi[sz]e)[,.]? "
            r"?(?:but )?(?:as an ai|i (?:can(?:no|')?t|am (?:not able|unable)|'?m (?:not able|unable)))"
            r"|\bas an? (?:ai|artificial intelligence)(?: language)? (?:model|assistant)\b"
            r"|\A\W*i (?:can(?:no|')?t|am unable to|'?m unable to) "
            r"(?:assist|help|comply|fulfil|provide|generate|create)",
            needs="AI artificial rtificial sorry Sorry apologi Apologi unable can't cannot cant",
            flags=re.IGNORECASE,
        ),
        answers=True,
    ),
    Pattern(
        "placeholder_answers",
        "have an answer that stands for none",
        lambda text: (0, len(text)) if len(text) < 24 and text.strip() in _PLACEHOLDERS else None,
        answers=True,
    ),
    Pattern(
        "mojibake",
        "hold broken characters, as Ã© for é",
        _mojibake,
    ),
    Pattern(
        "control_characters",
        "hold invisible control characters",
        lambda text: match.span() if (match := _CONTROL.search(text)) else None,
    ),
    Pattern(
        "repetition",
        "say the same again and again",
        _repeats,
    ),
    Pattern(
        "template_markers",
        "hold the markers of a chat template in their text",
        _search(
            r"<\|(?:im_start|im_end|eot_id|start_header_id|end_header_id|endoftext|user|assistant|"
            r"system|end|begin_of_text|end_of_text)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
            r"|(?m:^### (?:Instruction|Response|Input):)|</?s>",
            needs="<| INST SYS> _of_turn ### s>",
        ),
    ),
)


def patterns_in(text: str, answer: bool) -> Iterator[tuple[Pattern, tuple[int, int]]]:
    """Yield each pattern that occurs in a text, and its place."""
    for pattern in PATTERNS:
        if (answer or not pattern.answers) and (place := pattern.find(text)):
            yield pattern, place


def repaired(text: str) -> str:
    """Return the text without control characters and with broken characters repaired."""
    if not text.isascii() and _BROKEN.search(text):
        text = _unbroken(text)
    return _CONTROL.sub("", text)


def _unbroken(text: str) -> str:
    """Return the text with UTF-8 that was decoded as a one-byte encoding decoded correctly."""
    for encoding in ("cp1252", "latin-1"):
        try:
            return text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return re.sub("[Ââãð][\x80-\xff€™œ˜“”¢¦Ÿ]{1,3}|Ã.", _unbroken_part, text)


def _unbroken_part(match: re.Match[str]) -> str:
    try:
        return match.group().encode("cp1252").decode("utf-8")
    except UnicodeError:
        return match.group()
