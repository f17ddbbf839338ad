"""From words to meaning, by rules: which intent, which number, day, time, name. English.

No model is asked: an utterance is compared with the example phrases of each intent by the trigrams of
its letters (which forgive what the recogniser mishears), and looked through for keywords.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import sqrt
from typing import Final

CERTAIN_ENOUGH: Final = 0.45
"""Likeness to an intent below which an utterance is not understood."""
KEYWORD_SCORE: Final = 0.6
MORE_KEYWORDS: Final = 0.1

_ONES: Final = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBERS: Final[Mapping[str, int]] = {
    **{word: value for value, word in enumerate(_ONES)},
    **{word: value * 10 for value, word in enumerate(_TENS, 2)},
    **{f"{ten} {_ONES[one]}": value * 10 + one for value, ten in enumerate(_TENS, 2) for one in range(1, 10)},
}
_NUMBER_WORD: Final = re.compile(r"\b(" + "|".join(sorted(_NUMBERS, key=len, reverse=True)) + r")\b")
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS: Final = "january|february|march|april|may|june|july|august|september|october|november|december"


def normal(text: str) -> str:
    """Lower case, without punctuation, numbers as digits."""
    text = text.lower().replace("’", "'").replace("-", " ")
    text = re.sub(r"\b([ap])\.m\.?", r"\1m", text)
    text = re.sub(r"(\d):(\d\d)", r"\1 \2", text)
    text = re.sub(r"[^a-z0-9' ]", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    return _NUMBER_WORD.sub(lambda match: str(_NUMBERS[match[1]]), text)


def _trigrams(text: str) -> Counter[str]:
    padded = f"  {text} "
    return Counter(padded[start : start + 3] for start in range(len(padded) - 2))


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    shared = sum(count * other[gram] for gram, count in one.items())
    size = sqrt(sum(c * c for c in one.values()) * sum(c * c for c in other.values()))
    return shared / size if size else 0.0


class Matcher:
    """The intents of a script, ready to be compared with."""

    def __init__(self, examples: Mapping[str, Iterable[str]], keywords: Mapping[str, Iterable[str]]) -> None:
        self._examples = {
            intent: [_trigrams(normal(phrase)) for phrase in phrases] for intent, phrases in examples.items()
        }
        self._keywords = {
            intent: [re.compile(rf"\b{re.escape(normal(word))}\b") for word in words]
            for intent, words in keywords.items()
        }

    def best(self, text: str) -> tuple[str, float] | None:
        """The likeliest intent and its score up to 1; None where none is likely enough."""
        said = normal(text)
        grams = _trigrams(said)
        scores = {intent: self._score(intent, said, grams) for intent in self._examples}
        intent = max(scores, key=scores.__getitem__, default=None)
        if intent is None or scores[intent] < CERTAIN_ENOUGH:
            return None
        return intent, scores[intent]

    def _score(self, intent: str, said: str, grams: Counter[str]) -> float:
        like = max((_cosine(grams, example) for example in self._examples[intent]), default=0.0)
        hits = sum(1 for word in self._keywords.get(intent, ()) if word.search(said))
        # What is like an example and holds a keyword beats what only holds one.
        return max(like, KEYWORD_SCORE + MORE_KEYWORDS * (hits - 1) + 0.2 * like) if hits else like


# -- slots --------------------------------------------------------------------------------------------


def number(text: str, *, bare: bool) -> str | None:
    """A count of people or things: "a table for four", "just the two of us", "three"."""
    said = normal(text)
    if re.search(r"\b(a couple|both of us)\b", said):
        return "2"
    if re.search(r"\b(just me|only me|myself|alone)\b", said):
        return "1"
    match = re.search(r"\b(?:for|of) (\d+)\b(?! (?:30|15|45|am|pm|o'clock))", said)
    match = match or re.search(r"\b(\d+) (?:people|persons?|guests?|of us|adults)\b", said)
    if match is None and bare:
        match = re.search(r"\b(\d+)\b", said)
    return match[1] if match else None


def day(text: str, *, bare: bool) -> str | None:
    """A weekday, today, tomorrow, or a date, as it is to be said."""
    said = normal(text)
    match = re.search(rf"\b(?:(next|this) )?({'|'.join(WEEKDAYS)})s?\b", said)
    if match:
        return f"{match[1]} {match[2].title()}" if match[1] == "next" else match[2].title()
    match = re.search(r"\b(today|tonight|tomorrow|the day after tomorrow)\b", said)
    if match:
        return "today" if match[1] == "tonight" else match[1]
    match = re.search(rf"\b({_MONTHS}) (?:the )?(\d\d?)(?:st|nd|rd|th)?\b", said)
    if match:
        return f"{match[1].title()} {match[2]}"
    match = re.search(rf"\b(\d\d?)(?:st|nd|rd|th)? (?:of )?({_MONTHS})\b", said)
    return f"{match[2].title()} {match[1]}" if match else None


def time_of_day(text: str, *, bare: bool) -> str | None:
    """A time, as it is to be said: "7 PM", "half past 7", "noon"."""
    said = normal(text)
    if match := re.search(r"\b(noon|midday|midnight)\b", said):
        return match[1]
    if match := re.search(r"\b(half past|quarter past|quarter to) (\d\d?)\b", said):
        return f"{match[1]} {match[2]}"
    if match := re.search(r"\b(\d\d?) ?(?:o'clock)? ?(\d\d)? ?([ap]) ?m\b", said):
        minutes = f":{match[2]}" if match[2] else ""
        return f"{match[1]}{minutes} {match[3].upper()}M"
    match = re.search(r"\b(\d\d?) (15|30|45|00)\b", said) or re.search(r"\b(\d\d?) ?()o'clock", said)
    match = match or re.search(r"\b(?:at|around|about) (\d\d?)()\b", said)
    if match is None and bare:
        match = re.search(r"^\D*\b(\d\d?)()\b\D*$", said)
    if match is None or int(match[1]) > 24:
        return None
    return f"{match[1]}:{match[2]}" if match[2] else f"{match[1]} o'clock"


def name(text: str, *, bare: bool) -> str | None:
    """A person's name: behind "my name is", or all that was said if that is short."""
    match = re.search(r"\b(?:name is|name's|this is|i am|i'm|it's|it is|under)\s+([A-Za-z' -]+)", text, re.I)
    words = (match[1] if match else text if bare else "").strip(" .,!?").split()
    words = [
        word for word in words if word.lower() not in ("please", "the", "uh", "um", "well", "yes", "thanks")
    ]
    if not words or len(words) > 3 or any(character.isdigit() for word in words for character in word):
        return None
    return " ".join(word[:1].upper() + word[1:] for word in (w.strip(".,!?") for w in words))


def anything(text: str, *, bare: bool) -> str | None:
    """The caller's own words."""
    said = text.strip(" .!?")
    return said or None if bare else None


SLOT_KINDS: Final[Mapping[str, Callable[..., str | None]]] = {
    "number": number,
    "day": day,
    "time": time_of_day,
    "name": name,
    "text": anything,
}


def yes_or_no(text: str) -> bool | None:
    """True, False, or None for neither."""
    said = normal(text)
    if re.search(r"\b(no|nope|not|wrong|don't)\b", said):
        return False
    if re.search(r"\b(yes|yeah|yep|sure|correct|right|ok|okay|please|exactly|fine|perfect)\b", said):
        return True
    return None


def pressed(text: str) -> str | None:
    """The keys in a text item such as "[DTMF] caller pressed 5"."""
    match = re.search(r"\[DTMF\].*?([0-9*#A-D](?:[ ,]*[0-9*#A-D])*)\s*$", text)
    return re.sub(r"[ ,]", "", match[1]) if match else None
