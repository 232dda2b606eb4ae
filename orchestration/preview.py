"""What a journey would say to a person, and the same sent to addresses of ours.

A message to ourselves is recorded in the ledger before it is handed over, apart from
the sends of runs: nothing counts it, and no person's history holds it.
"""

import secrets
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, get_args

import polars as pl
import yaml

from activations.authoring import SAMPLE
from activations.channels import CHANNELS, DestinationDownError
from activations.ledger import Ledger, Outcome, Send
from activations.parts import Phase, nearest
from activations.preview import PreviewError, Shown, previewed
from activations.reading import keys_twice, read_text
from activations.render import Message, Renderer, RenderError
from orchestration.assets.activate import destinations
from orchestration.backup import write_private
from orchestration.links import links_to_show
from orchestration.recovery import home_lock
from orchestration.settings import Settings, wall_clock
from orchestration.sources.authored import read_authored
from orchestration.stopping import CHANNEL_STOPPED, mark_of
from orchestration.warehouse import Warehouse, fetch_frame, require_table
from orchestration.why import find_profile

RUN = "select as_of, base_currency from staging.stg_run"
# What a content may speak of, as `decisions.send_payloads` has it.
WORDS = """
    select
        profiles.first_name,
        coalesce(zones.time_zone, run.time_zone) as timezone,
        phases.phase_name,
        run.base_currency as currency,
        intents.product_id,
        intents.product_name,
        intents.category,
        intents.price as product_price,
        intents.cart_value_amount,
        stats.recent_buyer_count,
        (
            select list({
                product_id: product_id, product_name: product_name, price: price
            } order by rank)
            from profiles.next_products as suggestions
            where suggestions.profile_id = profiles.profile_id
        ) as related_products,
        (
            select arg_max(orders.order_id, (orders.ordered_at, orders.order_id))
            from staging.stg_orders as orders
            inner join identity.profile_events as events
                on orders.message_id = events.message_id
            where events.profile_id = profiles.profile_id
        ) as order_id
    from profiles.profiles as profiles
    cross join staging.stg_run as run
    left join decisions.phases as phases on profiles.profile_id = phases.profile_id
    left join decisions.local_zones as zones
        on profiles.profile_id = zones.profile_id and zones.is_likeliest
    left join profiles.intents as intents on profiles.profile_id = intents.profile_id
    left join profiles.product_stats as stats on intents.product_id = stats.product_id
    where profiles.profile_id = $profile_id
"""
SUBJECTS = ("subject", "title")
TEST = "[Test] "


@dataclass(frozen=True)
class Preview:
    """Messages of a journey, and whom they would be to, in words."""

    shown: list[Shown]
    whom: str
    renderer: Renderer


def preview(
    settings: Settings,
    journey: str,
    *,
    step: str | None = None,
    channel: str | None = None,
    person: str | None = None,
) -> Preview:
    """What a journey says, on a step and channel or on all, to a person or a sample.

    Raises:
        AuthoredError: if there is no journey file at all.
        PreviewError: naming what there is instead, or the journey's mistake.
        WhyError: if there is no such person, or several.
        DatabaseError: if a person is named and no run has been yet.
    """
    authored = read_authored(settings)
    found = {known.journey: known for known in authored.journeys}
    for problem in authored.journey_problems:
        if problem.name == journey and journey not in found:
            raise PreviewError(str(problem))
    if journey not in found:
        raise PreviewError(
            f"there is no journey {journey}; {nearest(journey, [*found])}"
        )
    words: Mapping[str, Any] = SAMPLE
    as_of: datetime | None = None
    phase: Phase | None = None
    whom = "a made-up customer, of whom everything is known,"
    if person is not None:
        words, as_of = words_of(settings, person)
        if words["phase_name"] in get_args(Phase):
            phase = words["phase_name"]
        whom = f"{person}, as of {as_of:%Y-%m-%d %H:%M} UTC,"
    renderer = Renderer(
        shop_url=settings.shop_url,
        links=links_to_show(settings),
        currency=str(words["currency"] or settings.base_currency or "USD"),
        content=settings.content,
        needs_postal_address=settings.live,
    )
    shown = previewed(
        renderer,
        found[journey],
        step=step,
        channel=channel,
        phase=phase,
        words=words,
        as_of=as_of,
    )
    return Preview(shown, whom, renderer)


def words_of(settings: Settings, person: str) -> tuple[dict[str, Any], datetime]:
    """All that a message may know of a person, and as of when."""
    with Warehouse.of(settings).connect(read_only=True) as connection:
        require_table(connection, "decisions", "rule_verdicts")
        who = {"profile_id": find_profile(connection, person)}
        words = fetch_frame(connection, WORDS, who).row(0, named=True)
        run = fetch_frame(connection, RUN).row(0, named=True)
    return words, run["as_of"]


def read_seed_list(path: Path) -> dict[str, list[str]]:
    """Addresses of ours, by channel.

    Raises:
        PreviewError: if there is no such file or it cannot be used, with the mend.
    """
    like = "write it as `email: [you@shop.example]`"
    try:
        text = read_text(path)
        twice = [str(location[-1]) for location, *_ in keys_twice(yaml.compose(text))]
        stated = yaml.safe_load(text)
    except FileNotFoundError:
        raise PreviewError(f"{path} is not there; {like}") from None
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        said = " ".join(str(error).split())
        raise PreviewError(f"{path} cannot be read: {said}; {like}") from None
    if twice:
        raise PreviewError(f"{path}: {twice[0]} is there twice; keep one")
    if not isinstance(stated, dict):
        raise PreviewError(f"{path}: expected channels with addresses; {like}")
    for channel, addresses in stated.items():
        if channel not in CHANNELS:
            mend = nearest(str(channel), list(CHANNELS))
            raise PreviewError(f"{path}, {channel}: there is no such channel; {mend}")
        if not isinstance(addresses, list) or not all(
            isinstance(address, str) and address.strip() for address in addresses
        ):
            raise PreviewError(f"{path}, {channel}: expected a list of texts; {like}")
    return stated


def send_tests(settings: Settings, preview: Preview) -> pl.DataFrame:
    """Send each message to our own addresses on its channel; what became of each.

    Raises:
        PreviewError: if no message could be made, or none has an address of ours.
        LedgerError: if the ledger cannot be written.
    """
    seeds = read_seed_list(settings.seed_list)
    sends = [
        replace(each.send, send_id=f"test-{secrets.token_hex(12)}", address=address)
        for each in preview.shown
        for address in seeds.get(each.send.channel, ())
        if each.message is not None
    ]
    if not sends:
        raise PreviewError(
            f"{settings.seed_list} has no address on a channel of these messages, or "
            "none of them could be made"
        )
    with home_lock(settings), Ledger(settings.ledger) as ledger:
        before = set(ledger.tests()["send_id"])
        for send in sends:
            send_test(settings, ledger, preview.renderer, send)
        return ledger.tests().filter(~pl.col("send_id").is_in(before))


def send_test(
    settings: Settings, ledger: Ledger, renderer: Renderer, send: Send
) -> None:
    """Hand over one message to ourselves, if its channel goes anywhere."""
    destination, _ = destinations(send.channel, settings, outbox=settings.test_outbox)
    send = replace(send, destination=destination.name if destination else "none")
    ledger.begin_test(send, made_at=wall_clock())
    if mark_of(settings, send.channel).exists():
        ledger.end_test(Outcome(send.send_id, "dead", CHANNEL_STOPPED))
        return
    if destination is None:
        ledger.end_test(Outcome(send.send_id, "dead", "no_destination"))
        return
    with closing(destination):
        try:
            (outcome,) = destination.send([as_test(renderer.render(send))])
        except (DestinationDownError, RenderError) as error:
            outcome = Outcome(send.send_id, "dead", str(error))
    ledger.end_test(outcome)


def as_test(message: Message) -> Message:
    """A message that says in its subject or title that it is a test."""
    marked = {
        name: f"{TEST}{message.fields[name]}"
        for name in SUBJECTS
        if name in message.fields
    }
    return replace(message, fields={**message.fields, **marked})


def write_page(page: str, out: Path | None) -> Path:
    """Write a page for its owner alone, to a file that is named or a temporary one.

    Raises:
        PreviewError: if it cannot be written.
    """
    try:
        path = out.expanduser().resolve() if out else Path(mkdtemp()) / "preview.html"
        write_private(path, page.encode())
    except OSError as error:
        raise PreviewError(f"{out} cannot be written: {error.strerror}") from None
    return path
