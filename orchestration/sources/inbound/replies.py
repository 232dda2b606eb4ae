"""What a person answers to a text message: stop, start, or something else.

Doubt stops. Any word or phrase of the seed `spellings` that asks to stop does so
wherever it stands, however it is written, whatever else is said: "please STOP!", "s t o
p", "cancel my order". A first word that is a no does, too.

A stop is taken back by START or UNSTOP alone, as carriers do: with any other word the
message may be about something else, and a YES may answer another question. It holds for
the number that sends it.
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


@dataclass(frozen=True)
class ReplyWords:
    """Phrases that ask to stop, and first words that are a no; in lower case."""

    phrases: frozenset[str]
    noes: frozenset[str]

    @classmethod
    def read(cls, seed: Path) -> Self:
        """The words of the seed `spellings`."""
        rows = pl.read_csv(seed, infer_schema=False)
        phrases = rows.filter(field="reply_word")["spelling"]
        noes = rows.filter(field="consent_status", meaning="denied")["spelling"]
        return cls(frozenset(map(words_in, phrases)), frozenset(map(letters_in, noes)))

    def answer(self, text: str) -> Answer:
        """What a message asks for."""
        words, letters = words_in(text), letters_in(text)
        if (
            any(f" {phrase} " in f" {words} " for phrase in self.phrases)
            or letters in map(letters_in, self.phrases)
            or words.partition(" ")[0] in self.noes
        ):
            return "stop"
        return "start" if letters in STARTS else "other"


def words_in(text: str) -> str:
    """The words of a text in lower case, one space between them."""
    # wide, styled and accented letters as they are typed elsewhere
    plain = unicodedata.normalize("NFKC", text).casefold()
    return NO_LETTERS.sub(" ", plain).strip()


def letters_in(text: str) -> str:
    """The letters and digits of a text in lower case."""
    return words_in(text).replace(" ", "")
