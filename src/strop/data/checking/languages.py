"""Rough detection of a text's language: by its script, for Latin letters by common words."""

import re

_SCRIPTS = {
    "Chinese": re.compile("[\u4e00-\u9fff]"),
    "Japanese": re.compile("[\u3040-\u30ff]"),
    "Korean": re.compile("[\uac00-\ud7af]"),
    "Cyrillic": re.compile("[\u0400-\u04ff]"),
    "Greek": re.compile("[\u0370-\u03ff]"),
    "Hebrew": re.compile("[\u0590-\u05ff]"),
    "Arabic": re.compile("[\u0600-\u06ff]"),
    "Devanagari": re.compile("[\u0900-\u097f]"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
}
_ANY_SCRIPT = re.compile("|".join(script.pattern for script in _SCRIPTS.values()))
_WORDS = {
    "English": "the and of is that for with are this you was it have not be from",
    "German": "der die und das ist nicht ein eine mit auf für sich auch werden wird",
    "French": "le les des est une dans pour que qui sur avec pas vous nous être",
    "Spanish": "el los las que una por con para está como más pero es del se",
    "Italian": "il gli che di una per non sono con della è anche più nel questo",
    "Portuguese": "os que uma para com não são por mais como dos você está ao em",
    "Dutch": "het een van dat niet zijn voor met ook deze wordt naar aan bij",
}
_LANGUAGE_OF: dict[str, set[str]] = {}
for _language, _words in _WORDS.items():
    for _word in _words.split():
        _LANGUAGE_OF.setdefault(_word, set()).add(_language)


def language(text: str) -> str | None:
    """Return the language or script of a text, or None if it is unclear."""
    head = text[:600]
    if not head.isascii() and _ANY_SCRIPT.search(head):
        letters = sum(map(str.isalpha, head))
        counts = {name: len(script.findall(head)) for name, script in _SCRIPTS.items()}
        if counts["Japanese"] > 0.1 * letters:
            return "Japanese"
        best = max(counts, key=lambda name: counts[name])
        if letters and counts[best] > 0.3 * letters:
            return best
    votes: dict[str, int] = {}
    for word in head.lower().split():
        for name in _LANGUAGE_OF.get(word, ()):
            votes[name] = votes.get(name, 0) + 1
    if not votes:
        return None
    first, *others = sorted(votes, key=lambda name: -votes[name])
    clear = not others or votes[first] >= 1.5 * votes[others[0]]
    return first if votes[first] >= 3 and clear else None
