"""A ledger that was put back or lost, brought up from what else knows of its sends.

Frames in, frame out. What went out is `sent`, what was settled otherwise stays so, and
what nobody can know is `unknown`: nothing of it is ever sent again.
"""

from collections.abc import Sequence

import polars as pl

from activations.ledger import TIMESTAMP, Schema

LEDGER_PUT_BACK = "ledger_put_back"
MAY_HAVE_BEEN_SENT = "may_have_been_sent"

# What a witness may say of a send, and what the ledger takes over.
RECOVERED: Schema = {
    "send_id": pl.String,
    "enrollment_id": pl.String,
    "journey": pl.String,
    "step": pl.String,
    "channel": pl.String,
    "profile_id": pl.String,
    "identifier_type": pl.String,
    "identifier": pl.String,
    "address": pl.String,
    "destination": pl.String,
    "content_id": pl.String,
    "message_class": pl.String,
    "state": pl.String,
    "reason": pl.String,
    "as_of": TIMESTAMP,
    "enqueued_at": TIMESTAMP,
    "settled_at": TIMESTAMP,
    "sent_at": TIMESTAMP,
    "attempts": pl.Int64,
}
FINAL = ("sent", "suppressed", "dead", "unknown")


def witness(frame: pl.DataFrame | None) -> pl.DataFrame:
    """What one source knows, a row per send; columns that it lacks are null."""
    if frame is None or frame.is_empty():
        return pl.DataFrame(schema=RECOVERED)
    columns = [
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in RECOVERED.items()
    ]
    return frame.select(columns).unique("send_id", keep="first", maintain_order=True)


def recover(known: pl.DataFrame, witnesses: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The sends that the ledger lacks or holds for less far than they came.

    `known` has the ledger's `send_id`, `state` and `attempts`. Earlier witnesses are
    believed before later ones in what a send is; as to its fate a witness that says
    `sent` before one that says otherwise, and one that saw it tried more often than the
    ledger is enough to make it unknown.
    """
    said = pl.concat([*witnesses]).lazy()
    about = RECOVERED.keys() - {"send_id", "state", "reason", "attempts"}
    fates = (
        said.filter(pl.col("state").is_in(FINAL))
        .sort(pl.col("state") == "sent", descending=True, maintain_order=True)
        .group_by("send_id", maintain_order=True)
        .agg(pl.col("state", "reason").first())
    )
    merged = (
        said.group_by("send_id", maintain_order=True)
        .agg(
            pl.col(*about).drop_nulls().first(),
            pl.col("attempts").max(),
        )
        .join(fates, on="send_id", how="left")
        .join(known.lazy(), on="send_id", how="left", suffix="_known")
        .filter(
            pl.col("state_known").is_null()
            | (
                pl.col("state_known").is_in(["pending", "inflight"])
                & (
                    pl.col("state").is_not_null()
                    | (pl.col("attempts") > pl.col("attempts_known"))
                )
            )
        )
    )
    is_final = pl.col("state").is_not_null()
    is_sent = pl.col("state") == "sent"
    return (
        merged.with_columns(
            pl.when(is_final).then("reason").otherwise(pl.lit(LEDGER_PUT_BACK)),
            pl.col("state").fill_null("unknown"),
        )
        .with_columns(
            # nothing names them any more: each stands for itself
            pl.col("enrollment_id", "profile_id").fill_null(pl.col("send_id")),
            pl.col("journey", "step", "content_id").fill_null("unknown"),
            pl.col("channel").fill_null("unknown"),
            pl.col("destination").fill_null("unknown"),
            pl.col("message_class").fill_null("marketing"),
            pl.col("as_of").fill_null(pl.coalesce("sent_at", "enqueued_at")),
            pl.max_horizontal(pl.col("attempts").fill_null(1), 1).alias("attempts"),
        )
        .with_columns(
            pl.when(is_sent).then(pl.coalesce("sent_at", "as_of")).alias("sent_at"),
            pl.col("enqueued_at").fill_null(pl.col("as_of")),
        )
        .with_columns(
            pl.coalesce("settled_at", "sent_at", "enqueued_at").alias("settled_at"),
            pl.when(is_sent).then(None).otherwise("reason").alias("reason"),
        )
        .select(*RECOVERED)
        .sort("send_id")
        .collect()
    )
