"""The report as files: pages that load nothing, each whole or as it was before.

Values of events are hostile until they are escaped: Jinja does so everywhere, and a
Content Security Policy allows no script and no style but the page's own.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from activations.channels.file import write_private
from orchestration.labels import Labels
from orchestration.report import answers, earned, flow, health, messages, people
from orchestration.report.drawing import DARK, LIGHT, draw
from orchestration.report.parts import Page, Source, minute
from orchestration.settings import Settings
from orchestration.warehouse import Connection, swapped

TEMPLATES = Path(__file__).parent / "templates"
OWN_TEMPLATES = {"index", "messages", "person"}
PERSONAL = {"person"}
CODE = re.compile(r"`([^`]+)`")


def write_report(connection: Connection, settings: Settings) -> list[Page]:
    """The pages of a warehouse, written into the home.

    Those that show persons go into a folder of their own, beside the one to share.
    """
    source = Source(connection, Labels.read(connection))
    pages = read_pages(source, settings)
    environment = make_environment()
    for page in pages:
        folder = settings.people if page.slug in PERSONAL else settings.report
        folder.mkdir(parents=True, exist_ok=True)
        with swapped(folder / f"{page.slug}.html") as partial:
            write_private(partial, as_html(environment, source, page, pages).encode())
    for folder in (settings.report, settings.people):
        for path in folder.glob("*.html"):
            if path.stem not in {page.slug for page in pages}:
                path.unlink()
    return pages


def read_pages(source: Source, settings: Settings) -> list[Page]:
    """All pages in the order in which they are listed, the first one about today."""
    pages = [
        earned.channels(source),
        earned.sequences(source),
        earned.caused(source),
        flow.journeys(source),
        flow.reasons(source),
        people.people(source),
        messages.messages(source, settings),
        flow.outbox(source),
        answers.pressure(source),
        answers.content(source),
        health.trust(source),
        health.freshness(source),
    ]
    return [flow.today(source, pages), *pages]


def make_environment() -> Environment:
    """Jinja that escapes everything and knows what is missing."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = with_code
    return environment


def with_code(text: str) -> Markup:
    """Escaped text in which what stands between backticks is code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(Markup.escape(text))))


def as_html(
    environment: Environment, source: Source, page: Page, pages: list[Page]
) -> str:
    """One page as HTML."""
    style = environment.get_template("style.css").render(
        light=variables(LIGHT), dark=variables(DARK)
    )
    script = (TEMPLATES / "person.js").read_text()
    template = page.slug if page.slug in OWN_TEMPLATES else "page"
    hrefs = {other.slug: href(page, other) for other in pages}
    return environment.get_template(f"{template}.html").render(
        page=page,
        pages=[
            {"slug": other.slug, "name": other.name, "href": hrefs[other.slug]}
            for other in pages
        ],
        hrefs=hrefs,
        style=Markup(style),
        script=Markup(script),
        policy=policy(page, style, script),
        drawings=[
            draw(section.chart, f"c{number}") if section.chart else []
            for number, section in enumerate(page.sections, start=1)
        ],
        as_of=minute(source.as_of),
        currency=source.currency,
    )


def href(page: Page, other: Page) -> str:
    """The way from a page to another: personal ones lie in a folder of their own."""
    name = f"{other.slug}.html"
    if (page.slug in PERSONAL) == (other.slug in PERSONAL):
        return name
    return f"../people/{name}" if other.slug in PERSONAL else f"../report/{name}"


def variables(palette: Mapping[str, str]) -> Markup:
    """A palette as variables of CSS."""
    return Markup(" ".join(f"--{name}: {value};" for name, value in palette.items()))


def policy(page: Page, style: str, script: str) -> str:
    """What a page may do: use its own style and script, and load nothing.

    Previews of emails hold styles of their own.
    """
    styles = "'unsafe-inline'" if page.slug == "messages" else source_hash(style)
    scripts = source_hash(script) if page.slug in PERSONAL else "'none'"
    return (
        f"default-src 'none'; style-src {styles}; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def source_hash(text: str) -> str:
    """How a policy names an inline style or script."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
