"""What a person answers to a text message: stop, start, or something else.

Doubt stops. Any word or phrase of the seed `spellings` that asks to stop does so
wherever it stands, however it is written, whatever else is said: "please STOP!", "s t o
p", "cancel my order". A first word that is a no does, too.

A stop is taken back by START or UNSTOP alone, as carriers do: with any other word the
message may be about something else, and a YES may answer another question. It holds for
the number that sends it, and gives back no more than there was before (`consents`).
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import polars as pl

Answer = Literal["stop", "start", "other"]

STARTS = frozenset({"start", "unstop"})
NO_LETTERS = re.compile(r"[\W_]+")
APOSTROPHES = re.compile("['’`´]")
LONGEST_RUN = 12
"""Words, or letters typed apart, that one phrase may be written in."""


@dataclass(frozen=True)
class ReplyWords:
    """The letters of phrases that ask to stop, and of first words that are a no."""

    stops: frozenset[str]
    noes: frozenset[str]

    @classmethod
    def read(cls, seed: Path) -> Self:
        """The words of the seed `spellings`."""
        rows = pl.read_csv(seed, infer_schema=False)
        stops = rows.filter(field="reply_word")["spelling"]
        noes = rows.filter(field="consent_status", meaning="denied")["spelling"]
        return cls(*(frozenset(map(letters_in, words)) for words in (stops, noes)))

    def answer(self, text: str) -> Answer:
        """What a message asks for."""
        words = words_in(text)
        runs = {
            "".join(words[begin:end])
            for begin in range(len(words))
            for end in range(begin + 1, min(begin + LONGEST_RUN, len(words)) + 1)
        }
        if runs & self.stops or (words and words[0] in self.noes):
            return "stop"
        return "start" if "".join(words) in STARTS else "other"


def words_in(text: str) -> list[str]:
    """The words of a text in lower case, wide and styled letters as plain ones."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return NO_LETTERS.sub(" ", APOSTROPHES.sub("", plain)).split()


def letters_in(text: str) -> str:
    """The letters and digits of a text in lower case."""
    return "".join(words_in(text))
