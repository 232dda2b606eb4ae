"""Send list in, receipts out: every send at most once, whatever breaks in between.

In order, for one channel:

1. what an earlier run left in flight is resolved by its destination's delivery class:
   sent once more where a repeat changes nothing, asked after where the destination
   answers, else `unknown` and never tried again;
2. what an earlier run left pending is withdrawn if it is no longer wanted or too old,
   and held if it must not go out now, as the decisions of this run say;
3. the send list is enqueued, one row per `send_id`, before anything is sent;
4. pending rows are claimed, rendered, handed over and settled, batch by batch; right
   before, a guard keeps back whom the decisions may know too little of by now. What the
   destination may have taken stays in flight, and is resolved as above.

The ledger is written before and after each handing over, so that a crash anywhere
leaves a row that says how far it came. Whatever goes wrong with one message is the end
of that message, or its wait; never of another.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Literal

import polars as pl

from activations.channels import BLIND, Destination, DestinationDownError
from activations.ledger import ENQUEUED, Ledger, Outcome, Send
from activations.render import ContentError, Message, Renderer, RenderError

RUN_DID_NOT_FINISH = "run_did_not_finish"
NO_LONGER_DUE = "no_longer_due"
NO_DESTINATION = "no_destination"
CONTENT_UNUSABLE = "content_unusable"
EXPIRED = "expired"
CRASHED_IN_FLIGHT = "crashed_in_flight"
IN_DOUBT_TOO_LONG = "in_doubt_too_long"


@dataclass(frozen=True)
class RetryPolicy:
    """How often a row is tried before it is given up."""

    passes_per_run: int = 3
    most_attempts: int = 9
    pause_seconds: float = 2.0


Guard = Callable[[Collection[str]], Mapping[str, str]]
"""Which of some sends, by `send_id`, must not be claimed now, each with the reason."""


class ImbalanceError(Exception):
    """The decisions contradict themselves: nothing may be sent on them."""


def assert_balanced(balances: pl.DataFrame) -> None:
    """Refuse to send on decisions that break a rule (`rule`, `broken_count`).

    The same rules are tests of the decisions; a test can be skipped, this cannot.

    Raises:
        ImbalanceError: naming each broken rule.
    """
    broken = balances.filter(pl.col("broken_count") != 0)
    if not broken.is_empty():
        raise ImbalanceError(
            "nothing was sent: "
            + "; ".join(f"{count} {rule}" for rule, count in broken.iter_rows())
        )


def activate(
    ledger: Ledger,
    send_list: pl.DataFrame,
    *,
    channel: str,
    destination: Destination | None,
    others: Sequence[Destination] = (),
    held: Mapping[str, str] = MappingProxyType({}),
    unwanted: Mapping[str, str] = MappingProxyType({}),
    renderer: Renderer,
    guard: Guard,
    as_of: datetime,
    clock: Callable[[], datetime],
    policy: RetryPolicy = RetryPolicy(),
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Bring one channel's ledger rows as far as they go in the run at `as_of`.

    `send_list` holds the columns of `ENQUEUED`, `is_due` (decided by this run, or
    again) and `is_wanted` (an earlier decision that still may be carried out). `held`
    are sends that may be carried out, but not now, `unwanted` those that no longer may,
    each with its reason. Without a `destination` none goes out. `others` are
    destinations of earlier runs that can say what they took. `clock` is the wall clock:
    how long a doubt lasts is not a matter of runs.
    """
    known = (*([destination] if destination else []), *others)
    resolve(
        ledger,
        channel,
        known,
        wanted=set(send_list.filter("is_wanted")["send_id"]),
        held=held,
        guard=guard,
        as_of=as_of,
        clock=clock,
        policy=policy,
    )
    withdraw(ledger, channel, send_list, unwanted, as_of=as_of)
    name = destination.name if destination else "none"
    enqueue(ledger, send_list, destination=name, as_of=as_of)
    if destination is None:
        waiting = [send.send_id for send in ledger.waiting(channel)]
        ledger.withdraw(waiting, state="suppressed", reason=NO_DESTINATION, as_of=as_of)
        return
    ledger.refresh(send_list.filter("is_wanted").to_dicts())
    deliver(
        ledger,
        channel,
        destination,
        renderer,
        as_of=as_of,
        clock=clock,
        policy=policy,
        held=hold(ledger, channel, held, renderer),
        guard=guard,
        sleep=sleep,
    )


def resolve(
    ledger: Ledger,
    channel: str,
    destinations: Sequence[Destination],
    *,
    wanted: Collection[str],
    held: Collection[str],
    guard: Guard,
    as_of: datetime,
    clock: Callable[[], datetime],
    policy: RetryPolicy,
) -> None:
    """Settle what may have been taken, each by the class of where it was in flight.

    What is `held`, or kept back by the guard, is not sent once more now and stays in
    doubt; what is not `wanted` any more is not sent once more at all.
    """
    known = {destination.name: destination for destination in destinations}
    inflight = sorted(ledger.inflight(channel), key=attrgetter("destination"))
    for name, sends in groupby(inflight, attrgetter("destination")):
        outcomes: list[Outcome] = []
        repeatable: list[str] = []
        for send in sends:
            fate = fate_of(send, known.get(name), wanted, clock())
            if isinstance(fate, Outcome):
                outcomes.append(fate)
            elif fate == "repeat" and send.send_id not in held:
                repeatable.append(send.send_id)
        ledger.complete(outcomes, as_of=as_of)
        if repeatable:
            repeat(ledger, known[name], repeatable, guard, as_of=as_of, policy=policy)


def fate_of(
    send: Send, destination: Destination | None, wanted: Collection[str], now: datetime
) -> Outcome | Literal["repeat", "wait"]:
    """What a row in flight ends as, or what to do about it."""
    promise = destination.delivery_class if destination else BLIND
    lost = Outcome(send.send_id, "unknown", CRASHED_IN_FLIGHT)
    if destination is None or promise.kind == "blind":
        return lost
    if promise.freezes:
        if send.tried_at is None:
            # claimed, and given to nobody yet
            return replace(lost, state="pending")
        age = now - send.tried_at
        if promise.within and age > promise.within:
            return replace(lost, reason=IN_DOUBT_TOO_LONG)
        if age < promise.grace:
            return "wait"
    if promise.repeats:
        return "repeat" if send.send_id in wanted else lost
    return answer_of(send, destination)


def answer_of(send: Send, destination: Destination) -> Outcome | Literal["wait"]:
    """What a row in flight ends as, as its destination says."""
    try:
        answer = destination.look_up(send)
    except DestinationDownError:
        return "wait"
    if answer == "sent":
        return Outcome(send.send_id, "sent", receipt="recalled")
    is_free = answer == "not_sent"
    return Outcome(send.send_id, "pending" if is_free else "unknown", CRASHED_IN_FLIGHT)


def repeat(
    ledger: Ledger,
    destination: Destination,
    send_ids: Sequence[str],
    guard: Guard,
    *,
    as_of: datetime,
    policy: RetryPolicy,
) -> None:
    """Send once more, word for word, what the destination takes only once.

    Only a yes settles it well: a refusal of the repeat is no proof that the first was
    refused.
    """
    for batch in in_batches(send_ids, destination.batch_size):
        stopped = guard(batch)
        sends = ledger.repeat(send_id for send_id in batch if send_id not in stopped)
        messages = [Message.from_json(send.frozen) for send in sends if send.frozen]
        try:
            outcomes = destination.send(messages)
        except DestinationDownError:
            # unheard, and no more in doubt than before
            return
        in_doubt = [
            outcome
            if outcome.state == "sent"
            else replace(outcome, state="unknown")
            if outcome.state == "dead"
            else replace(outcome, state="inflight")
            for outcome in outcomes
        ]
        ledger.complete(apply_retry_limit(in_doubt, sends, policy), as_of=as_of)


def withdraw(
    ledger: Ledger,
    channel: str,
    send_list: pl.DataFrame,
    unwanted: Mapping[str, str],
    *,
    as_of: datetime,
) -> None:
    """Settle the pending rows of earlier runs that must not go out any more."""
    wanted = set(send_list.filter("is_wanted")["send_id"])
    moot: dict[str, list[str]] = {}
    for send in ledger.waiting(channel):
        if send.send_id not in wanted:
            reason = unwanted.get(send.send_id, NO_LONGER_DUE)
            moot.setdefault(reason, []).append(send.send_id)
    for reason, send_ids in moot.items():
        # what only came too late can be tried again
        state: Literal["dead", "suppressed"]
        state = "dead" if reason == EXPIRED else "suppressed"
        ledger.withdraw(send_ids, state=state, reason=reason, as_of=as_of)


def enqueue(
    ledger: Ledger, send_list: pl.DataFrame, *, destination: str, as_of: datetime
) -> None:
    """Record every send: the due ones to go out, the others as never to."""
    rows = send_list.select(*ENQUEUED, "is_due").sort("as_of", "send_id")
    ledger.enqueue(
        rows.filter("is_due").to_dicts(), destination=destination, as_of=as_of
    )
    ledger.enqueue(
        rows.filter(~pl.col("is_due")).to_dicts(),
        destination=destination,
        as_of=as_of,
        suppressed_for=RUN_DID_NOT_FINISH,
    )


def hold(
    ledger: Ledger, channel: str, held: Mapping[str, str], renderer: Renderer
) -> frozenset[str]:
    """The pending rows that are not to be tried now; the ledger records why."""
    reasons: dict[str, str] = {}
    for send in ledger.waiting(channel):
        try:
            renderer.template(send.journey, send.content_id, channel)
        except ContentError as error:
            reasons[send.send_id] = f"{CONTENT_UNUSABLE}: {error}"
        if send.send_id in held:
            reasons[send.send_id] = held[send.send_id]
    ledger.hold(reasons)
    return frozenset(reasons)


def deliver(
    ledger: Ledger,
    channel: str,
    destination: Destination,
    renderer: Renderer,
    *,
    as_of: datetime,
    clock: Callable[[], datetime],
    policy: RetryPolicy,
    guard: Guard,
    held: frozenset[str] = frozenset(),
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send what is pending; what fails for now is tried again, then by later runs."""
    for turn in range(policy.passes_per_run):
        waiting = [
            send.send_id for send in ledger.waiting(channel) if send.send_id not in held
        ]
        doubtful = {
            send.send_id
            for send in ledger.inflight(channel)
            if turn and destination.delivery_class.repeats and send.send_id not in held
        }
        if not (waiting or doubtful):
            return
        if turn:
            sleep(policy.pause_seconds * 2 ** (turn - 1))
        if doubtful:
            resolve(
                ledger,
                channel,
                [destination],
                wanted=doubtful,
                held=held,
                guard=guard,
                as_of=as_of,
                clock=clock,
                policy=policy,
            )
        for send_ids in in_batches(waiting, destination.batch_size):
            stopped = guard(send_ids)
            ledger.hold(stopped)
            held = held.union(stopped)
            claimed = ledger.claim(
                [send_id for send_id in send_ids if send_id not in stopped],
                destination=destination.name,
            )
            try:
                outcomes = send_batch(ledger, claimed, destination, renderer, clock)
            except DestinationDownError as error:
                outcomes = [
                    Outcome(send.send_id, "pending", str(error)) for send in claimed
                ]
                outcomes = apply_retry_limit(outcomes, claimed, policy)
                ledger.complete(outcomes, as_of=as_of)
                break
            outcomes = apply_retry_limit(outcomes, claimed, policy)
            ledger.complete(outcomes, as_of=as_of)


def send_batch(
    ledger: Ledger,
    sends: Sequence[Send],
    destination: Destination,
    renderer: Renderer,
    clock: Callable[[], datetime],
) -> list[Outcome]:
    """Render and send; who cannot be rendered is settled without being contacted.

    Raises:
        DestinationDownError: if the destination took none of them.
    """
    started = time.perf_counter()
    messages: list[Message] = []
    outcomes: list[Outcome] = []
    for send in sends:
        try:
            messages.append(renderer.render(send))
        except RenderError as error:
            outcomes.append(Outcome(send.send_id, "dead", f"render_failed: {error}"))
        except ContentError as error:
            reason = f"{CONTENT_UNUSABLE}: {error}"
            outcomes.append(Outcome(send.send_id, "pending", reason))
        # what is known of one person may break anything; its text may quote the person
        except Exception as error:
            reason = f"render_failed: {type(error).__name__}"
            outcomes.append(Outcome(send.send_id, "dead", reason))
    if messages:
        promise = destination.delivery_class
        if promise.freezes:
            frozen = {message.send_id: message.to_json() for message in messages}
            ledger.freeze(frozen, at=clock())
        outcomes += [
            replace(outcome, state="unknown")
            if outcome.state == "inflight" and promise.kind == "blind"
            else outcome
            for outcome in destination.send(messages)
        ]
    seconds = time.perf_counter() - started
    return [replace(outcome, delivery_latency=seconds) for outcome in outcomes]


def apply_retry_limit(
    outcomes: Sequence[Outcome], sends: Sequence[Send], policy: RetryPolicy
) -> list[Outcome]:
    """Turn the last allowed failure of a row into its end."""
    attempts: Mapping[str, int] = {send.send_id: send.attempts for send in sends}
    ends: Mapping[str, Literal["dead", "unknown"]]
    ends = {"pending": "dead", "inflight": "unknown"}
    return [
        replace(outcome, state=ends[outcome.state], reason=f"gave_up: {outcome.reason}")
        if outcome.state in ends and attempts[outcome.send_id] >= policy.most_attempts
        else outcome
        for outcome in outcomes
    ]


def in_batches(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The items in slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
