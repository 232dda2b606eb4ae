"""The report says what the warehouse holds, to anybody, and loads nothing."""

import base64
import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from activations.channels import CHANNELS
from orchestration.report import people
from orchestration.report.drawing import DARK, LIGHT, SERIES
from orchestration.report.parts import likely
from orchestration.report.writing import write_report
from orchestration.settings import PROJECT, Settings
from orchestration.warehouse import Warehouse
from tests.conftest import TestHome

PAGES = (
    *("index", "channels", "sequences", "caused", "journeys", "reasons", "person"),
    *("messages", "outbox", "pressure", "content", "trust", "freshness"),
)
VOID = {"meta", "input", "br", "hr", "img", "link", "rect", "path", "line"}


class Read(HTMLParser):
    """A page: its tags in order, and the text within some of them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def close(self) -> None:
        super().close()
        assert not self._open

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in tags]

    def text(self, tag: str) -> str:
        return " ".join("".join(text for at, text in self.texts if at == tag).split())


def path_of(settings: Settings, slug: str) -> Path:
    folder = settings.people if slug == "person" else settings.report
    return folder / f"{slug}.html"


@pytest.fixture
def page(demo_home: TestHome) -> Callable[[str], Read]:
    return lambda slug: Read(path_of(demo_home.settings, slug).read_text())


def numbers(sentence: str) -> list[float]:
    return [
        float(found) for found in re.findall(r"[\d.]*\d", sentence.replace(",", ""))
    ]


def write_copy(
    demo_home: TestHome, folder: Path, change: Callable[[Warehouse], None] | None = None
) -> Settings:
    """The report of the demo's tables, of which some were changed, in a new home."""
    settings = Settings(home=folder / "home", _env_file=None)
    settings.root.mkdir()
    shutil.copyfile(demo_home.settings.published, settings.warehouse)
    warehouse = Warehouse(settings.warehouse)
    if change:
        change(warehouse)
    with warehouse.connect(read_only=True) as connection:
        write_report(connection, settings)
    return settings


def latest_verdicts(home: TestHome) -> pl.DataFrame:
    return (
        home.read("select * from decisions.decisions")
        .sort("as_of")
        .group_by("enrollment_id", "step", "channel", maintain_order=True)
        .last()
    )


def sent_steps(home: TestHome) -> pl.DataFrame:
    sends = home.read("select * from activations.sends where state = 'sent'")
    return sends.select("enrollment_id", "step").unique()


def expect_index(home: TestHome) -> list[float]:
    last = home.read(
        "select * from activations.sends "
        "where sent_at = (select max(as_of) from raw.runs)"
    )
    return [last.height, last["profile_id"].n_unique(), expect_reasons(home)[0]]


def expect_channels(home: TestHome) -> list[float]:
    credits = home.read(
        "select channel, cast(revenue_amount as double) as amount "
        "from attribution.credits where attribution_model = 'markov' "
        "and channel <> 'none'"
    )
    largest = credits.group_by("channel").agg(pl.col("amount").sum())["amount"].max()
    return [round(float(str(largest)))]


def expect_sequences(home: TestHome) -> list[float]:
    paths = home.read("select path, path_kind from attribution.paths")
    rows = (
        paths.group_by("path")
        .agg((pl.col("path_kind") == "path_to_conversion").sum().alias("won"), pl.len())
        .filter((pl.col("len") >= 20) & pl.col("path").str.contains(" > "))
    )
    best = max(rows.iter_rows(), key=lambda row: (likely(row[1], row[2]), row[0]))
    return [best[1], best[2]]


def expect_caused(home: TestHome) -> list[float]:
    waiting = home.read(
        "select * from attribution.lift_entries where trial_type = 'journey' "
        "and trial <> 'all' and exclusion_reason = 'horizon_open'"
    )
    ends_at = home.read(
        "select horizon_ends_at from attribution.lift_entries "
        "where trial_type = 'journey' and exclusion_reason = 'horizon_open'"
    )["horizon_ends_at"].min()
    return [ends_at.day, ends_at.year, waiting.height]


def expect_journeys(home: TestHome) -> list[float]:
    reached = latest_verdicts(home).unique(["journey", "enrollment_id", "step"])
    lost = (
        reached.join(
            sent_steps(home).with_columns(was_sent=True),
            on=["enrollment_id", "step"],
            how="left",
        )
        .group_by("journey", "step")
        .agg(pl.col("was_sent").is_null().sum().alias("lost"), pl.len().alias("due"))
        .sort("lost", "journey")
        .row(-1, named=True)
    )
    return [lost["lost"], lost["due"]]


def expect_reasons(home: TestHome) -> list[float]:
    verdicts = latest_verdicts(home)
    had = verdicts.join(sent_steps(home), on=["enrollment_id", "step"], how="semi")
    people, some = set(verdicts["profile_id"]), set(had["profile_id"])
    return [len(people - some), len(people)]


def expect_person(home: TestHome) -> list[float]:
    return [home.read("select * from profiles.profiles where not is_hub").height]


def expect_messages(home: TestHome) -> list[float]:
    journeys = [path.stem for path in home.settings.journeys.glob("*.yml")]
    files = [
        file for name in journeys for file in (home.settings.content / name).iterdir()
    ]
    channels = {file.name.split(".")[1] for file in files}
    return [len(files), len(channels)]


def expect_outbox(home: TestHome) -> list[float]:
    as_of = home.read("select max(as_of) from raw.runs").item()
    due = home.read("select * from decisions.step_times where is_next").filter(
        (pl.col("due_at") > as_of) & (pl.col("due_at") <= as_of + pl.duration(hours=24))
    )
    held = home.read("""
        select decisions.reason, decisions.verdict, candidates.as_of
        from decisions.candidates
        inner join decisions.decisions
            on candidates.decision_id = decisions.decision_id
    """).filter(
        (pl.col("as_of") == as_of)
        & (pl.col("verdict") == "held")
        & (pl.col("reason") != "another_channel")
    )
    return [due.height, held.height]


def expect_pressure(home: TestHome) -> list[float]:
    as_of = home.read("select max(as_of) from raw.runs").item()
    counted = home.read(
        "select channel from seeds.channel_rules where counts_to_frequency_cap"
    )["channel"]
    written = home.read("select * from attribution.message_touches").filter(
        (pl.col("touched_at") > as_of - pl.duration(days=30))
        & pl.col("channel").is_in(counted.to_list())
    )
    refused = home.read("""
        select threads.profile_id, events.occurred_at
        from staging.stg_message_events as events
        inner join profiles.message_threads as threads using (message_id)
        where events.interaction in ('unsubscribed', 'complained')
    """).filter(pl.col("occurred_at") > as_of - pl.duration(days=30))
    persons = set(
        home.read("select profile_id from profiles.profiles where not is_hub")[
            "profile_id"
        ]
    )
    reached = set(written["profile_id"]) & persons
    return [len(reached & set(refused["profile_id"])), len(reached), 30]


def expect_content(home: TestHome) -> list[float]:
    touches = home.read(
        "select coalesce(journey, campaign) as content, coalesce(step, '') as step, "
        "channel, touched_at from attribution.message_touches"
    ).drop_nulls()
    keys = ["content", "step", "channel"]
    weeks = touches.with_columns(
        week=(
            (pl.col("touched_at") - pl.col("touched_at").min().over(keys))
            .dt.total_seconds()
            .floordiv(604800)
        )
    )
    large = weeks.group_by(*keys, "week").len().filter(pl.col("len") >= 50)
    judged = large.group_by(keys).len("weeks").filter(pl.col("weeks") > 1)
    return [judged.height]


def expect_trust(home: TestHome) -> list[float]:
    used = home.read("select * from ml.estimators where is_in_use")
    return [(used["scored_by"] == "estimator").sum(), used.height]


def expect_freshness(home: TestHome) -> list[float]:
    runs = home.read("select as_of from raw.runs")["as_of"]
    orders = home.read("""
        select conversions.converted_at, events.received_at
        from attribution.conversions
        inner join staging.stg_orders as orders using (order_id)
        inner join raw.events as events on orders.message_id = events.message_id
    """).filter(pl.col("received_at") > runs.min())
    spans = sorted(
        (min(run for run in runs if run >= received) - converted).total_seconds()
        for converted, received in orders.iter_rows()
    )
    middle, odd = divmod(len(spans), 2)
    half = spans[middle] if odd else (spans[middle - 1] + spans[middle]) / 2
    return [
        part
        for seconds in (round(half), round(spans[-1]))
        for part in (seconds // 3600, seconds // 60 % 60)
    ]


@pytest.mark.parametrize("slug", PAGES)
def test_the_title_of_a_page_says_what_the_warehouse_holds(
    demo_home: TestHome, page: Callable[[str], Read], slug: str
) -> None:
    finding = page(slug).text("h1")
    assert numbers(finding) == globals()[f"expect_{slug}"](demo_home), finding


@pytest.mark.parametrize("slug", PAGES)
def test_a_page_serves_keyboard_and_screen_reader(
    page: Callable[[str], Read], slug: str
) -> None:
    read = page(slug)
    assert read.all("html") == [{"lang": "en"}]
    assert read.text("title")
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(read.all(landmark)) == 1
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in read.tags:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids
    for drawing in read.all("svg"):
        assert drawing.get("aria-hidden") == "true" or drawing["aria-label"]
    assert len(read.all("table")) == len(read.all("caption"))
    assert all(cell["scope"] in ("row", "col") for cell in read.all("th"))
    assert all(frame["title"] for frame in read.all("iframe"))
    labelled = {label["for"] for label in read.all("label")}
    assert {field["id"] for field in read.all("input")} == labelled
    current = [link for link in read.all("a") if "aria-current" in link]
    assert [link["href"] for link in current] == [f"{slug}.html"]
    assert read.all("a")[0] == {"class": "skip", "href": "#main"}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_stands_out_from_what_it_lies_on(palette: dict[str, str]) -> None:
    for text in ("ink", "muted", "accent"):
        assert contrast(palette[text], palette["paper"]) >= 4.5
        assert contrast(palette[text], palette["card"]) >= 4.5
    for drawn in SERIES:
        assert contrast(palette[drawn], palette["paper"]) >= 3
    assert contrast(palette["accent"], palette["pale"]) >= 3
    assert DARK.keys() == LIGHT.keys()
    assert len(set(palette.values())) == len(palette)


def loads(read: Read) -> Iterator[str]:
    """What a page would fetch, or lead to beside other pages."""
    for tag, attributes in read.tags:
        for name in ("src", "href", "action", "poster", "data", "xlink:href"):
            if name in attributes and not re.fullmatch(
                r"#main|(\.\./(report|people)/)?[a-z]+\.html", attributes[name]
            ):
                yield f"{tag} {name}={attributes[name]}"
        if tag in ("link", "base", "object", "embed"):
            yield tag
    for tag, text in read.texts:
        if tag == "style" and re.search(r"url\(|@import|https?:", text):
            yield text


@pytest.mark.parametrize("slug", PAGES)
def test_a_page_loads_nothing_and_allows_only_its_own_style_and_script(
    page: Callable[[str], Read], slug: str
) -> None:
    read = page(slug)
    assert not list(loads(read))
    for frame in read.all("iframe"):
        assert frame["sandbox"] == ""
        assert not re.search(r"<(script|link|img)|url\(|@import", frame["srcdoc"])
    (rules,) = (meta for meta in read.all("meta") if "http-equiv" in meta)
    rule = dict(part.split(" ", 1) for part in rules["content"].split("; "))
    assert rule["default-src"] == rule["form-action"] == "'none'"
    styles, scripts = (
        "".join(text for at, text in read.texts if at == tag)
        for tag in ("style", "script")
    )

    def hashed(text: str) -> str:
        digest = hashlib.sha256(text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    assert rule["style-src"] in (hashed(styles), "'unsafe-inline'")
    assert (rule["style-src"] == "'unsafe-inline'") == bool(read.all("iframe"))
    if slug == "person":
        own = scripts[scripts.index('"use strict"') :]
        assert rule["script-src"] == hashed(own)
        assert "innerHTML" not in own
    else:
        assert rule["script-src"] == "'none'"
        assert not scripts


def test_the_same_tables_make_the_same_bytes_though_another_process_drew_them(
    demo_home: TestHome, tmp_path: Path
) -> None:
    settings = write_copy(demo_home, tmp_path)
    for slug in PAGES:
        ours, theirs = path_of(settings, slug), path_of(demo_home.settings, slug)
        assert ours.read_bytes() == theirs.read_bytes(), slug


def test_the_report_is_small_and_its_owners_alone(demo_home: TestHome) -> None:
    settings = demo_home.settings
    files = [*settings.report.iterdir(), *settings.people.iterdir()]
    assert {path.stem for path in files} == set(PAGES)
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_what_may_be_shared_names_nobody(demo_home: TestHome) -> None:
    names = demo_home.read("""
        select email, phone, user_id, profile_id, first_name || ' ' || last_name
        from profiles.profiles where not is_hub
    """)
    shared = "\n".join(
        path.read_text() for path in demo_home.settings.report.iterdir()
    ).lower()
    for column in names.iter_columns():
        for name in column.drop_nulls():
            assert len(name) < 4 or name.lower() not in shared


def test_a_person_is_looked_up_with_every_verdict(
    demo_home: TestHome, page: Callable[[str], Read]
) -> None:
    read = page("person")
    packed = "".join(text for at, text in read.texts if at == "script")
    packed = packed[: packed.index('"use strict"')]
    known = {
        person["id"]: person
        for person in json.loads(gzip.decompress(base64.b64decode(packed)))
    }
    verdicts = demo_home.read("""
        select profile_id, count(*) as verdicts
        from decisions.decisions group by profile_id
    """)
    for profile_id, count in verdicts.iter_rows():
        if profile_id in known:
            assert len(known[profile_id]["verdicts"]) == count
    assert len(known) == expect_person(demo_home)[0]
    assert all(
        person["facts"] and len(person["moments"]) <= people.NEWEST
        for person in known.values()
    )


def test_of_too_many_people_the_page_holds_none(
    demo_home: TestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "PEOPLE_LIMIT", 1000)
    settings = write_copy(demo_home, tmp_path)
    read = Read(path_of(settings, "person").read_text())
    assert "rekindle why PERSON" in read.text("code")
    assert not read.all("script")


HOSTILE = "</script><img src=x onerror=alert(1)> {{ 7*7 }} `a` & \"'\u202e\ufffe"


def test_a_hostile_name_is_never_markup(demo_home: TestHome, tmp_path: Path) -> None:
    def spoil(warehouse: Warehouse) -> None:
        with warehouse.connect() as connection:
            for change in (
                "update attribution.message_touches set campaign = $1 where journey "
                "is null",
                "update attribution.experiment_lift set experiment = $1",
                "update attribution.path_performance set path = $1 || path",
                "update attribution.channel_performance set channel = $1 || channel",
                "update decisions.decisions set step = $1 || step, reason = $1",
                "update profiles.profiles set first_name = $1, email = $1",
                "update raw.rejected_events set reason = $1",
                "update ml.drift set name = $1 || name",
            ):
                connection.execute(change, [HOSTILE])
            connection.execute(
                "insert into staging.not_understood (kind, value, count) "
                "values ('order_id', 'jane@example.com', 3), ('channel', $1, 2)",
                [HOSTILE],
            )

    settings = write_copy(demo_home, tmp_path, spoil)
    for slug in PAGES:
        before = Read(path_of(demo_home.settings, slug).read_text())
        read = Read(path_of(settings, slug).read_text())
        assert not list(loads(read))
        assert not read.all("img")
        assert len(read.all("script")) == len(before.all("script"))
        assert not any(
            name.startswith("on") for _, attributes in read.tags for name in attributes
        )
        assert "49" not in read.text("h1") or slug not in ("channels", "sequences")
    assert "onerror=alert(1)" in path_of(settings, "channels").read_text()
    trust = path_of(settings, "trust").read_text()
    assert "onerror=alert(1)" in trust
    assert "jane" not in trust


def test_where_nothing_is_known_the_pages_say_what_to_land(
    demo_home: TestHome, tmp_path: Path
) -> None:
    def empty(warehouse: Warehouse) -> None:
        with warehouse.connect() as connection:
            tables = connection.execute(
                "select table_schema, table_name from information_schema.tables "
                "where table_type = 'BASE TABLE' and table_schema <> 'seeds' "
                "and table_name not in ('current_run', 'stg_run')"
            ).fetchall()
            for schema, table in tables:
                connection.execute(f'delete from "{schema}"."{table}"')

    settings = write_copy(demo_home, tmp_path, empty)
    for slug in PAGES:
        read = Read(path_of(settings, slug).read_text())
        assert read.text("h1")
        assert not [drawing for drawing in read.all("svg") if "role" in drawing]
        if slug not in ("messages", "trust"):
            shown = "".join(text for _, text in read.texts)
            assert re.search(r"\b(land|nobody|nothing|no )", shown, re.IGNORECASE)
        assert not re.search(r"<tbody>\s*</tbody>", path_of(settings, slug).read_text())


def test_the_command_says_where_the_report_is(
    demo_home: TestHome, home: TestHome
) -> None:
    shown = demo_home.rekindle("report", "--no-open").stdout.strip()
    assert Path(shown) == demo_home.settings.report / "index.html"
    refused = home.rekindle("report", "--no-open", check=False)
    assert refused.returncode
    assert "`rekindle run` makes it" in refused.stderr


def test_a_message_of_every_channel_is_shown(page: Callable[[str], Read]) -> None:
    shown = page("messages").text("span")
    assert len(CHANNELS) == 7
    for channel in ("Email", "SMS", "Push", "In-app", "On-site", "Direct mail"):
        assert channel in shown


def test_templates_hold_no_raw_output() -> None:
    templates = PROJECT / "orchestration" / "report" / "templates"
    for path in templates.glob("*.html"):
        assert "safe" not in re.findall(r"\|\s*(\w+)", path.read_text()), path
