"""Measures of one answer beside the right one, for texts of any script."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

import regex
import torch
from torch import Tensor

_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]\p{M}*"
    r"|[\p{L}\p{M}\p{N}_--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    r"\p{Tibetan}]]+",
    regex.V1,
)
"""A word; in scripts without spaces between words, a letter with its marks."""
_PART = regex.compile(rf"{_WORD.pattern}|\s+|.", regex.V1 | regex.S)
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER = regex.compile(
    r"(?:(?<!\w)[-+−])?(?:\d{1,3}(?:[,\u00a0\u202f ]\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?"
)
_SENTENCE_END = regex.compile(r"[.!?؟।…]+(?=[\s\"'”’)\]]|$)|[。！？]+")
CHRF_ORDER, CHRF_BETA = 6, 2


def parts(text: str) -> list[str]:
    """Return a text as its words, runs of white space and single signs; joined they are the text."""
    return [match.group() for match in _PART.finditer(text)]


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if both are the same words but for case, punctuation and English articles, else 0.

    Where neither has a word, as with numbers of signs, the texts themselves are compared.
    """
    both = [[w for w in words(text) if w not in _ARTICLES] for text in (answer, reference)]
    if any(both):
        return float(both[0] == both[1])
    return float(answer.strip() == reference.strip())


def contains(answer: str, reference: str) -> float:
    """Return 1 if the words of the reference stand in the answer in a row, else 0."""
    inside, whole = words(reference), words(answer)
    if not inside:
        return float(reference.strip() in answer)
    starts = range(len(whole) - len(inside) + 1)
    return float(any(whole[i : i + len(inside)] == inside for i in starts))


def token_f1(answer: str, reference: str) -> float:
    """Return SQuAD's F1: 2 x common words / words of both, as bags, without English articles."""
    bags = [Counter(w for w in words(t) if w not in _ARTICLES) for t in (answer, reference)]
    total = bags[0].total() + bags[1].total()
    if not total:
        return float(answer.strip() == reference.strip())
    return 2 * (bags[0] & bags[1]).total() / total


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L: 2 x longest common subsequence / words of both."""
    first, second = words(answer), words(reference)
    if not first or not second:
        return float(answer.strip() == reference.strip())
    return 2 * _common_subsequence(first, second) / (len(first) + len(second))


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, one bit a word (Crochemore 2001)."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        same = places.get(word, 0)
        row = ((row + (row & same)) | (row & ~same)) & full
    return len(first) - row.bit_count()


def chrf_counts(answer: str, reference: str) -> list[float]:
    """Return for n = 1 to 6 the n-grams of letters of the answer, of the reference, and of both."""
    texts = ["".join(text.split()) for text in (answer, reference)]
    counts: list[float] = []
    for n in range(1, CHRF_ORDER + 1):
        bags = [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in texts]
        of_answer = bags[0].total() if bags[1] else 0
        counts += [of_answer, bags[1].total(), (bags[0] & bags[1]).total()]
    return counts


def chrf(sums: Tensor) -> Tensor:
    """Return chrF2 of summed counts: F2 of the mean precision and recall over n, from 0 to 1.

    Lengths that one of the texts does not have are left out, as sacrebleu does.
    """
    answer, reference, both = sums.view(len(sums), CHRF_ORDER, 3).unbind(2)
    there = ((answer > 0) & (reference > 0)).double()
    orders = there.sum(1).clamp(min=1)
    precision = (there * both / answer.clamp(min=1)).sum(1) / orders
    recall = (there * both / reference.clamp(min=1)).sum(1) / orders
    factor = CHRF_BETA**2
    bottom = factor * precision + recall
    return torch.where(bottom > 0, (1 + factor) * precision * recall / bottom.clamp(min=1e-12), 0.0)


def number_in(text: str) -> Decimal | None:
    """Return the last number in a text, `1,000` as a thousand; None if it has none."""
    numerals = [m.group() for m in _NUMBER.finditer(text)]
    numerals = [numeral for numeral in numerals if any(c.isdigit() for c in numeral)]
    if not numerals:
        return None
    plain = regex.sub(r"[,\u00a0\u202f ]", "", numerals[-1]).replace("−", "-")
    try:
        return Decimal(plain)
    except InvalidOperation:
        return None


def ends_in_number(text: str) -> bool:
    """Return whether a text ends in a number, but for a unit of one sign."""
    return text.strip().rstrip(".%$€£¥°").rstrip()[-1:].isdigit()


def number(answer: str, reference: str) -> float:
    """Return 1 if the last numbers of both are equal, else 0."""
    given = number_in(answer)
    return float(given is not None and given == number_in(reference))


def sentences(text: str) -> int:
    """Return the number of sentences of a text; one without an end counts."""
    return len([part for part in _SENTENCE_END.split(text) if words(part)])


def grade(text: str) -> float:
    """Return the US school grade of a text by the Automated Readability Index.

    4.71 letters / words + 0.5 words / sentences - 21.43
    """
    count = max(1, len(text.split()))
    letters = sum(c.isalnum() for c in text)
    return 4.71 * letters / count + 0.5 * count / max(1, sentences(text)) - 21.43
