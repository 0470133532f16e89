"""Names of places that exist nowhere: enough of them that test names never occur in training."""

from __future__ import annotations

import random

ONSETS = (*"bdfghklmnprstvwz", "br", "ch", "cr", "dr", "fl", "gr", "kl", "pl", "qu", "sh", "sk", "st", "th", "tr")
VOWELS = (*"aeiou", *"aeiou", "ea", "ei", "oa", "ou")
CODAS = ("", "", "", "", *"lmnrs", *"lmnrs", "nd", "ng", "rd", "rn", "sk", "st")
ENDINGS = (
    *("a", "o", "us", "en", "ia", "ora", "by", "dale", "fell", "ford", "gate", "ham", "holm", "ley", "mouth"),
    *("ness", "sted", "ton", "vale", "vik", "well", "wick", "worth"),
)
FIRST_WORDS = ("East", "Great", "Lower", "New", "North", "Old", "Port", "Saint", "Upper")
TWO_WORDS = 0.15


def draw_places(draw: random.Random, count: int) -> list[str]:
    """So many names, whose last words all differ: Velmora, Upper Quasted, ..."""
    words: dict[str, None] = {}
    while len(words) < count:
        syllables = [
            draw.choice(ONSETS) + draw.choice(VOWELS) + draw.choice(CODAS) for _ in range(draw.choice((1, 1, 2)))
        ]
        word = "".join([*syllables, draw.choice(ENDINGS)])
        if 5 <= len(word) <= 10:
            words[word.capitalize()] = None
    return [f"{draw.choice(FIRST_WORDS)} {word}" if draw.random() < TWO_WORDS else word for word in words]
