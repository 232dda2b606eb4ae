"""What people read in place of the names that tables hold.

The words are rows of the seed `display_names`, so that a brand may have its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from orchestration.warehouse import Connection, fetch_frame, has_table

CAPITALS = frozenset({"sms", "smtp", "rfm", "faq", "vip"})
NAMES = "select kind, name, label, advice from seeds.display_names"


@dataclass(frozen=True)
class Labels:
    """Labels and advice by kind and name; a name without a label reads as words."""

    labels: Mapping[tuple[str, str], str]
    advices: Mapping[tuple[str, str], str]

    @classmethod
    def read(cls, connection: Connection) -> "Labels":
        """Those of a warehouse; none in one that was built before there were any."""
        if not has_table(connection, "seeds", "display_names"):
            return cls({}, {})
        rows = fetch_frame(connection, NAMES).rows()
        return cls(
            {(kind, name): label for kind, name, label, _ in rows},
            {(kind, name): advice for kind, name, _, advice in rows if advice},
        )

    def of(self, kind: str, name: str | None) -> str:
        """The label of a name; of `name: detail`, the label and the detail."""
        if not name:
            return ""
        known = self.labels.get((kind, name))
        if known is not None:
            return known
        head, colon, detail = name.partition(":")
        if colon:
            return f"{self.of(kind, head)}: {detail.strip()}"
        return in_words(name)

    def advice(self, kind: str, name: str | None) -> str:
        """What to do about it; empty where nothing is said of it."""
        return self.advices.get((kind, (name or "").partition(":")[0]), "")

    def path(self, path: str) -> str:
        """A path of channels as attribution writes it, in words."""
        return " → ".join(self.of("channel", part) for part in path.split(" > "))

    def relabel(self, frame: pl.DataFrame, kinds: Mapping[str, str]) -> pl.DataFrame:
        """The frame with labels in place of names, by the kind of its columns."""
        return frame.with_columns(
            pl.col(column).replace(
                {name: self.of(kind, name) for name in frame[column].unique() if name}
            )
            for column, kind in kinds.items()
            if column in frame.columns and frame.schema[column] == pl.String
        )


def in_words(name: str) -> str:
    """A name as words: `sms_last_call` as `SMS last call`."""
    words = [
        word.upper() if word in CAPITALS else word
        for word in name.replace("_", " ").split()
    ]
    text = " ".join(words)
    return text[:1].upper() + text[1:]
