"""What messages look like: each content on each channel, to a made-up customer."""

from collections.abc import Iterator
from typing import Any

from activations.authoring import a_send
from activations.blueprint import needed_contents, read_journeys
from activations.channels import CHANNELS
from activations.reading import AuthoredError
from activations.render import ContentError, Message, Renderer, RenderError
from orchestration.labels import in_words
from orchestration.links import links_to_show
from orchestration.report.parts import Page, Section, Source, plural
from orchestration.settings import Settings

Shown = dict[str, Any]


def messages(source: Source, settings: Settings) -> Page:
    """Every message that a step may ask for, rendered."""
    try:
        journeys, _ = read_journeys(settings.journeys)
    except AuthoredError as error:
        return Page(
            "messages",
            "Messages",
            "There is no journey to show a message of: add one",
            sections=[Section("Journeys", if_empty=str(error))],
        )
    renderer = Renderer(
        shop_url=settings.shop_url,
        links=links_to_show(settings),
        currency=source.currency or "USD",
        content=settings.content,
    )
    groups: list[Shown] = [
        {
            "journey": source.labels.of("journey", journey.journey),
            "previews": [
                preview(source, renderer, journey, content_id, channel)
                for content_id, channel in sorted(needed_contents([journey]))
            ],
        }
        for journey in sorted(journeys, key=lambda journey: journey.journey)
    ]
    previews = [one for group in groups for one in group["previews"]]
    broken = [one for one in previews if one["problem"]]
    channels = {one["channel"] for one in previews}
    what = (
        f"{plural(len(previews), 'message')} may go out on "
        f"{plural(len(channels), 'channel')}"
    )
    return Page(
        "messages",
        "Messages",
        f"{what}, {len(broken)} with a mistake: mend those first"
        if broken
        else f"{what}: read them as a customer would",
        "Written for Ada, a made-up customer of whom everything is known. Links lead "
        "nowhere here.",
        extra={"groups": groups},
    )


def preview(
    source: Source, renderer: Renderer, journey: Any, content_id: str, channel: str
) -> Shown:
    """A message as a page shows it, or why there is none."""
    form = CHANNELS[channel].message_form
    shown: Shown = {
        "channel": source.labels.of("channel", channel),
        "content": in_words(content_id),
        "form": form,
        "problem": "",
        "fields": [],
        "html": "",
    }
    try:
        message = renderer.render(a_send(journey, content_id, channel))
    except (ContentError, RenderError) as error:
        return {**shown, "problem": str(error)}
    return {
        **shown,
        "html": message.fields.get("html", ""),
        "fields": list(readable_fields(message)),
    }


def readable_fields(message: Message) -> Iterator[tuple[str, str]]:
    """What a customer reads of a message, by what it is called."""
    for name, text in message.fields.items():
        if name not in ("html", "text", "link", "unsubscribe_link", "segments"):
            yield in_words(name), text
