"""What authors write is proofread: a mistake is named, and stops one journey alone."""

import re
import shutil
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from activations.authoring import SAMPLE, read_usable
from activations.destinations import read_destinations
from activations.reading import Problem
from activations.render import CONTENT, Renderer
from orchestration.assets import land
from orchestration.cli import app
from orchestration.resources import Home
from orchestration.settings import PROJECT, Settings
from orchestration.sources.authored import known_words, read_authored
from tests.conftest import LINKS, TestHome

JOURNEY = {
    "journey": "hello",
    "version": 1,
    "description": "Says hello.",
    "message_class": "marketing",
    "priority": 10,
    "entry": {"intent": ["browsing"]},
    "exit": {"after": "5d"},
    "re_eligibility": "never",
    "steps": [{"step": "first", "channels": ["email", "push"], "content": "welcome"}],
}
EMAIL = "---\nsubject: Hello\npreheader: You came by\nlink: /new\n---\n{body}\n"
PUSH = "---\ntitle: Hello\nlink: /new\n---\n{body}\n"
TODAY = date(2026, 7, 2)
Find = Callable[..., list[Problem]]


@pytest.fixture
def authored(tmp_path: Path) -> Path:
    """A folder with two journeys of sound content, and a renderer's shared files."""
    (tmp_path / "journeys").mkdir()
    content = tmp_path / "content"
    for name in ("hello", "goodbye"):
        path = tmp_path / "journeys" / f"{name}.yml"
        path.write_text(yaml.safe_dump(JOURNEY | {"journey": name}, sort_keys=False))
        (content / name).mkdir(parents=True)
        (content / name / "welcome.email.liquid").write_text(
            EMAIL.format(body="<mj-text>Hello</mj-text>")
        )
        (content / name / "welcome.push.liquid").write_text(PUSH.format(body="Hello"))
    for path in CONTENT.iterdir():
        if path.is_file():
            shutil.copy(path, content)
    return tmp_path


def proofread(authored: Path) -> tuple[list[str], list[Problem]]:
    """Names of the journeys that can be used, and the problems of the others."""
    renderer = Renderer(
        shop_url="https://shop.example",
        links=LINKS,
        currency="USD",
        content=authored / "content",
    )
    journeys, problems = read_usable(
        authored / "journeys", renderer, known_words(Settings()), today=TODAY
    )
    return [journey.journey for journey in journeys], problems


@pytest.fixture
def find(authored: Path) -> Find:
    """Problems of a content file of `hello`; `goodbye` goes on whatever they are."""

    def find_problems(text: str, channel: str = "email") -> list[Problem]:
        path = authored / "content" / "hello" / f"welcome.{channel}.liquid"
        form = EMAIL if channel == "email" else PUSH
        path.write_text(text if text.startswith("---") else form.format(body=text))
        usable, problems = proofread(authored)
        assert usable == (["goodbye"] if problems else ["goodbye", "hello"])
        assert {(problem.name, problem.file) for problem in problems} <= {
            ("hello", f"hello/welcome.{channel}.liquid")
        }
        return problems

    return find_problems


@pytest.mark.parametrize(
    ("said", "line", "reason"),
    [
        ("owner: ada@shop.example\nvalid_until: 2026-07-02", None, None),
        (
            "reviewed_on: 2026-06-01\nvalid_until: 2026-07-01",
            6,
            "true until 2026-07-01",
        ),
        ("valid_until: soon", 5, "expected a day"),
        ("valid_until: 2026-07-01 10:00:00", 5, "expected a day"),
        ("owner: 7", 5, "expected who answers for it"),
        ("ownr: ada", 5, "did you mean owner?"),
    ],
)
def test_content_may_say_who_answers_for_it_and_how_long_it_is_true(
    find: Find, said: str, line: int | None, reason: str | None
) -> None:
    problems = find(
        f"---\nsubject: Hello\npreheader: There\nlink: /new\n{said}\n---\n"
        "<mj-text>Hello.</mj-text>\n"
    )
    if reason is None:
        assert problems == []
        return
    (problem,) = problems
    assert problem.line == line
    assert reason in problem.reason
    assert (problem.code == "expired-content") == ("until" in reason)


def test_shipped_journeys_and_content_have_no_mistake(home: TestHome) -> None:
    authored = read_authored(home.settings)
    assert len(authored.journeys) == 6
    assert list(authored.audiences) == ["staff"]
    assert authored.journey_problems == authored.audience_problems == []


@pytest.mark.parametrize(
    ("text", "line", "mend"),
    [
        ("{{ firstname | default: 'you' }}", 6, "firstname; did you mean first_name?"),
        ("{% if ordr_id %}x{% endif %}", 6, "ordr_id; did you mean order_id?"),
        ("x\n{% unless catgory %}x{% endunless %}", 7, "did you mean category?"),
        ("{{ brand.nam | default: '' }}", 6, "nam; did you mean name?"),
        ("{{ brand.promises.first.text }}", 6, "there is no word text"),
        (
            "{% for p in related_products %}{{ p.prise | default: 1 }}{% endfor %}",
            6,
            "prise; did you mean price?",
        ),
        ("{{ related_products[0].pric | default: 1 }}", 6, "did you mean price?"),
        ("{% for p in related_product %}x{% endfor %}", 6, "mean related_products?"),
        ("{{ first_name | defalt: 'you' }}", 6, "filter defalt; did you mean default?"),
        ("{% if order_id %}\n{{ order_id | shout }}{% endif %}", 7, "no filter shout"),
        ("{{ product_price | money", 6, ""),
        ("{% if order_id %}", None, ""),
        (
            "---\nsubject: Hi {{ nme }}\npreheader: p\nlink: /\n---\nx\n",
            2,
            "no word nme",
        ),
        ("---\nsubject: s\npreheader: p\nlnk: /\n---\nx\n", 4, "did you mean link?"),
        ("---\nsubject: s\nlink: /\n---\nx\n", None, "preheader: is missing"),
        ("---\nsubject: s\nsubject: t\npreheader: p\nlink: /\n---\nx\n", 3, "keep one"),
        ("---\nsubject: s\n", None, "between two lines of ---"),
        ("<mj-text><a href='/other'>x</a></mj-text>", 6, "{{ '/other' | tracked }}"),
        ('<mj-button href="other">x</mj-button>', 6, "begins with https://"),
        ("{% if order_id %}<mj-image src='/a.png' />{% endif %}", 6, "leads nowhere"),
        (
            "{% assign path = '/a' %}<mj-text><a href='{{ path }}'>x</a></mj-text>",
            None,
            "{{ '/a' | tracked }}",
        ),
        (
            "---\nsubject: s\npreheader: p\nlink: /a?utm_campaign=may\n---\nx\n",
            4,
            "takes utm_campaign by itself",
        ),
        (
            "{% if x %}{% endif %}\n{{ '/a?utm_source=us' | tracked }}",
            7,
            "takes utm_source by itself",
        ),
        ("<mj-text>never closed", None, "MJML"),
        ("{% for n in (1..9000000000) %}x{% endfor %}", None, "loop iteration limit"),
        (
            "{% assign x = 'ab' %}{% for n in (1..99) %}"
            "{% assign x = x | append: x %}{% endfor %}{{ x }}",
            None,
            "limit reached",
        ),
        ("---\nsubject: [s]\npreheader: p\nlink: /\n---\nx\n", 2, "expected words"),
        ("---\nsubject: {{ s }}\npreheader: p\nlink: /\n---\nx\n", 2, "in quotes"),
        ("---\nsubject: ''\npreheader: p\nlink: /\n---\nx\n", 2, "is missing"),
        (" ", None, "body is empty"),
        ("{{ incentive_ends_at | local_date: 7 }}", None, "message:"),
        ("{{ first_name | money }}", None, "money: not a number"),
    ],
)
def test_a_mistake_in_content_is_named_by_file_line_and_mend(
    find: Find, text: str, line: int | None, mend: str
) -> None:
    problems = find(text)
    assert problems
    assert line is None or line in {problem.line for problem in problems}
    assert any(mend in str(problem) for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        "{{ first_name | default: 'you' }}",
        # printed without a default: no message for who has no name, and no mistake
        "{{ first_name }}",
        "{% for p in related_products %}{{ forloop.index }} {{ p.price }}{% endfor %}",
        "{% assign x = category | upcase %}{{ x | default: 'y' }}",
        "{% capture path %}/a{% endcapture %}<a href='{{ path | tracked }}'>x</a>",
        "<a href='https://elsewhere.example/'>x</a> <a href='mailto:a@b.example'>y</a>",
        "<a href='{{ link }}'>x</a> {{ brand.promises | size }} {{ brand.promises[1] }}"
        "{{ brand.postal_address }}",
        "{{ related_products.size | default: 0 }}",
    ],
)
def test_what_can_be_meant_is_no_mistake(find: Find, text: str) -> None:
    assert find(f"<mj-text>{text}</mj-text>") == []


def test_a_subject_is_what_is_written(authored: Path) -> None:
    path = authored / "content" / "hello" / "welcome.email.liquid"
    path.write_text("---\nsubject: Yes\npreheader: 1.50\nlink: /\n---\nx\n")
    renderer = Renderer(
        shop_url="https://shop.example",
        links=LINKS,
        currency="USD",
        content=authored / "content",
    )
    fields = renderer.template("hello", "welcome", "email").fields
    assert fields["subject"].written == "Yes"
    assert fields["preheader"].written == "1.50"


def test_a_missing_file_is_named_with_the_one_that_was_meant(authored: Path) -> None:
    folder = authored / "content" / "hello"
    (folder / "welcome.push.liquid").rename(folder / "welcom.push.liquid")
    usable, (problem,) = proofread(authored)
    assert usable == ["goodbye"]
    assert problem.file == "hello/welcome.push.liquid"
    assert "did you mean welcom.push.liquid?" in problem.reason


def test_content_is_needed_for_every_phase_and_channel(authored: Path) -> None:
    content = {"default": "welcome", "advocacy": "thanks"}
    steps = [{"step": "first", "channels": ["email", "push"], "content": content}]
    path = authored / "journeys" / "hello.yml"
    path.write_text(yaml.safe_dump(JOURNEY | {"steps": steps}))
    _, problems = proofread(authored)
    assert {problem.file for problem in problems} == {
        "hello/thanks.email.liquid",
        "hello/thanks.push.liquid",
    }


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("brand.yml", "- a list"),
        ("brand.yml", "name: ["),
        ("brand.yml", "name: " + "[" * 5_000 + "]" * 5_000),
        ("brand.yml", "name: The Shop\nname: Another"),
        ("_layout.email.liquid", "<mjml>{{ content }}"),
        ("_layout.email.liquid", "<mjml><mj-body></mj-body></mjml>"),
        ("_layout.email.liquid", "{{ contnt }}"),
    ],
)
def test_a_mistake_in_a_shared_file_sets_aside_whoever_needs_it(
    authored: Path, file: str, text: str
) -> None:
    steps = [{"step": "first", "channels": ["push"], "content": "welcome"}]
    (authored / "journeys" / "hello.yml").write_text(
        yaml.safe_dump(JOURNEY | {"steps": steps})
    )
    (authored / "content" / file).write_text(text)
    usable, problems = proofread(authored)
    assert usable == ([] if file == "brand.yml" else ["hello"])
    assert "goodbye" in {problem.name for problem in problems}


def test_mending_or_deleting_the_file_is_all_it_takes(authored: Path) -> None:
    path = authored / "content" / "hello" / "welcome.push.liquid"
    sound = path.read_text()
    path.write_text("no fields")
    assert proofread(authored)[0] == ["goodbye"]
    path.write_text(sound)
    assert proofread(authored) == (["goodbye", "hello"], [])
    path.write_text("no fields")
    (authored / "journeys" / "hello.yml").unlink()
    assert proofread(authored) == (["goodbye"], [])


def test_a_run_sets_a_bad_journey_aside_where_everybody_sees_it(
    home: TestHome, authored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))
    home.settings.config.symlink_to(authored)
    path = authored / "journeys" / "hello.yml"
    sound = path.read_text()

    def run() -> tuple[bool, list[str], list[tuple[object, ...]]]:
        result = dg.materialize(
            [land.land, land.every_journey_is_usable], resources={"home": Home()}
        )
        (check,) = result.get_asset_check_evaluations()
        assert check.severity == dg.AssetCheckSeverity.WARN
        journeys = home.read("select journey from raw.journeys order by journey")
        problems = home.read(
            "select journey, file, line, field from raw.journey_problems"
        )
        return check.passed, journeys["journey"].to_list(), problems.rows()

    path.write_text(sound.replace("priority", "prioritty"))
    passed, journeys, problems = run()
    assert not passed
    assert journeys == ["goodbye"]
    assert ("hello", "hello.yml", 5, "prioritty") in problems
    path.write_text(sound)
    assert run() == (True, ["goodbye", "hello"], [])


def test_check_names_each_mistake_or_says_that_there_is_none(
    home: TestHome, authored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))
    home.settings.config.symlink_to(authored)
    checked = CliRunner().invoke(app, ["check"])
    assert "journeys: 2, audiences: 1, mistakes: none" in checked.output
    broken = tmp_path / "destinations.yml"
    broken.write_text("email: pigeon")
    with monkeypatch.context() as patch:
        read = partial(read_destinations, broken)
        patch.setattr("activations.destinations.read_destinations", read)
        checked = CliRunner().invoke(app, ["check"])
        assert "rekindle: destinations.yml: email: pigeon is none of" in checked.output
    (authored / "content" / "hello" / "welcome.push.liquid").unlink()
    checked = CliRunner().invoke(app, ["check"])
    assert checked.exit_code == 1
    assert "hello/welcome.push.liquid: file: no such content file" in checked.output
    assert "rekindle: set aside until mended: hello" in checked.output


def test_the_words_that_are_known_are_those_that_messages_are_given() -> None:
    query = (PROJECT / "models" / "decisions" / "send_payloads.sql").read_text()
    written = query[query.index("write_payloads as (") :]
    given = set(re.findall(r"^            '(\w+)':", written, re.MULTILINE))
    assert given <= set(SAMPLE)
    assert set(SAMPLE) - given <= {"timezone"}
