"""JSON text built column by column, which is what makes the sample world fast.

Arrow's kernels cost microseconds a call where a data frame costs a tenth of a
millisecond, and a day of the world takes a thousand calls. Text values come from the
world itself and hold nothing that JSON must escape.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestration.sources.sample.dice import Flags, Floats, Ints, Text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Columns = TypeVar("Columns", bound="DataclassInstance")


@dataclass(frozen=True)
class Raw:
    """A column that is JSON text already: an object, a list."""

    text: Text


@dataclass(frozen=True)
class Members:
    """A column of members of an object, without braces: `"a": 1, "b": 2`."""

    text: Text


def column(values: NDArray[Any]) -> pa.Array:
    """The numbers or flags as an Arrow column, without a detour through pandas."""
    flat = np.packbits(values, bitorder="little") if values.dtype == bool else values
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(values.dtype),
        len(values),
        [None, pa.py_buffer(np.ascontiguousarray(flat))],
    )


def text(values: Sequence[str | None]) -> Text:
    """The values as a column of text."""
    return pl.Series(values, dtype=pl.String).to_arrow().cast(pa.string())


def constant(count: int, value: str | None) -> Text:
    """The same text in every row."""
    return pa.repeat(_scalar(value), count)


def digits(numbers: Ints) -> Text:
    """Whole numbers as text."""
    return column(numbers).cast(pa.string())


def gather(texts: Text, rows: Ints | Flags) -> Text:
    """The values of a column at the given positions."""
    return texts.take(column(np.asarray(rows, dtype=np.int64)))


def either(flags: Flags, this: Text, that: Text | str) -> Text:
    """This where the flag holds, else that."""
    other = _scalar(that) if isinstance(that, str) else that
    return pc.if_else(column(flags), this, other)


def kept(texts: Text, flags: Flags) -> Text:
    """The column with nulls wherever the flag does not hold."""
    return pc.if_else(column(flags), texts, _scalar(None))


def is_known(texts: Text) -> Flags:
    """Where the column has a value."""
    return pl.Series(texts, dtype=pl.String).is_not_null().to_numpy()


def money(cents: Ints) -> Floats:
    """Whole cents as an amount."""
    return cents / 100.0


def stack(parts: Sequence[Columns]) -> Columns:
    """Dataclasses of columns, one below the other."""

    def whole(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        is_text = isinstance(values[0], pa.Array)
        return pa.concat_arrays(values) if is_text else np.concatenate(values)

    return replace(
        parts[0], **{field.name: whole(field.name) for field in fields(parts[0])}
    )


def join(*parts: Text | str) -> Text:
    """Columns of text and constants, put together row by row; null where one is."""
    columns = [_scalar(part) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*columns, _scalar(""))


def members(count: int, **values: Any) -> Text:
    """`"name": value, …` for each of `count` rows; null values are left out.

    The first field must have no null.
    """
    pieces: list[Text | str] = []
    for name, value in values.items():
        if value is None:
            continue
        lead = "," if pieces else ""
        label = "" if isinstance(value, Members) else f"{json.dumps(name)}:"
        if not isinstance(value, pa.Array | np.ndarray | Raw | Members):
            pieces.append(f"{lead}{label}{json.dumps(value)}")
            continue
        is_json = isinstance(value, Raw | Members)
        texts: Any = value.text if isinstance(value, Raw | Members) else value
        if isinstance(texts, np.ndarray):
            texts = column(texts)
        quote = '"' if pa.types.is_string(texts.type) and not is_json else ""
        if not pa.types.is_string(texts.type):
            texts = texts.cast(pa.string())
        field = [f"{lead}{label}{quote}", texts, quote]
        if texts.null_count:
            field = [pc.fill_null(join(*field), _scalar(""))]
        pieces += field
    if all(isinstance(piece, str) for piece in pieces):
        return constant(count, "".join(pieces))
    return join(*pieces)


def json_object(count: int, **values: Any) -> Text:
    """`{"name": value, …}` for each of `count` rows; null values are left out.

    The first field must have no null.
    """
    return join("{", members(count, **values), "}")


@lru_cache(maxsize=4096)
def _scalar(value: str | None) -> pa.Scalar:
    return text([value])[0]
