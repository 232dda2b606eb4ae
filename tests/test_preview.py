"""A preview is what a run would send; a message to ourselves is no send."""

import re
import shutil
from collections.abc import Iterator
from email import message_from_bytes, policy
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations.channels import DestinationDownError
from activations.ledger import Ledger
from activations.preview import (
    PUSH_CUTS,
    PreviewError,
    cut,
    preview_page,
    sms_facts,
)
from activations.render import sms_segments
from orchestration import preview as previewing
from orchestration.preview import preview, read_seed_list, send_tests
from orchestration.settings import PROJECT
from orchestration.sources.authored import read_authored
from tests.conftest import TestHome
from tests.test_erase import FIRST, copy_of, words
from tests.test_erase import lived as lived  # noqa: PLC0414, the fixture
from tests.test_erase import number as number  # noqa: PLC0414, the fixture

LINK = re.compile(r"/(?:unsubscribe|preferences)/\S+")


class Frames(HTMLParser):
    """The documents that a page shows in frames, and whether they may run scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.documents: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "iframe":
            assert dict(attrs)["sandbox"] == ""
            self.documents.append(str(dict(attrs)["srcdoc"]))


def test_every_step_and_channel_of_every_journey_can_be_looked_at(
    home: TestHome,
) -> None:
    for journey in read_authored(home.settings).journeys:
        shown = preview(home.settings, journey.journey).shown
        assert all(each.message for each in shown), journey.journey
        pairs = {(each.send.step, each.send.channel) for each in shown}
        assert pairs == {
            (placed.step.step, channel)
            for placed in journey.messages
            for channel in placed.step.channels
        }
        frames = Frames(preview_page(shown, "x"))
        assert "script" not in frames.tags
        emails = [each.message for each in shown if each.send.channel == "email"]
        assert frames.documents == [
            email.fields["html"] for email in emails if email for _ in range(2)
        ]


def test_a_person_sees_what_the_run_sent_them(lived: TestHome, number: int) -> None:
    (path,) = (
        path
        for path in (lived.settings.outbox / "email").rglob("*.eml")
        if words(number)["email"] in path.read_text()
    )
    sent = message_from_bytes(path.read_bytes(), policy=policy.default)
    (each,) = preview(
        lived.settings, "cart_recovery", step="email_offer", person=str(number)
    ).shown
    assert each.message is not None
    text = sent.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    as_sent = text.replace(path.stem, "trial").split()
    # the links that are shown nobody can use
    shown = each.message.fields["text"].split()
    assert [LINK.sub("", word) for word in shown] == [
        LINK.sub("", word) for word in as_sent
    ]
    assert each.message.fields["subject"] == sent["Subject"]
    assert each.message.as_of == FIRST


def test_a_message_to_ourselves_leaves_a_trace_and_touches_nobody(
    lived: TestHome, tmp_path: Path
) -> None:
    home = copy_of(lived, tmp_path)
    home.settings.seed_list.write_text("email: [us@shop.example, qa@shop.example]\n")
    with Ledger(home.settings.ledger) as ledger:
        known = ledger.known()
    out = tmp_path / "page.html"
    home.rekindle(
        *("preview", "cart_recovery", "email_offer", "--send", "--out", str(out))
    )
    assert out.stat().st_mode & 0o077 == 0
    files = [*home.settings.test_outbox.rglob("*.eml")]
    mails = [message_from_bytes(path.read_bytes()) for path in files]
    assert {mail["To"] for mail in mails} == {"us@shop.example", "qa@shop.example"}
    assert all(mail["Subject"].startswith("[Test] ") for mail in mails)
    with Ledger(home.settings.ledger) as ledger:
        assert ledger.known() == known
        tests = ledger.tests()
    assert {path.stem for path in files} == set(tests["send_id"])
    assert tests["state"].to_list() == ["sent", "sent"]
    assert "address" not in tests.columns
    said = home.rekindle("reconcile", "--dry-run").stdout
    assert said == "the ledger knows all that went out\n"


@pytest.mark.parametrize("end", ["down", "killed"])
def test_a_message_to_ourselves_is_on_record_before_it_leaves(
    home: TestHome, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    settings = home.settings
    settings.config.mkdir()
    settings.seed_list.write_text("email: [us@shop.example]\n")

    class Server:
        name, batch_size = "smtp", 1

        def send(self, _: object) -> None:
            with Ledger(settings.ledger) as ledger:
                assert ledger.tests()["state"].to_list() == ["inflight"]
            if end == "killed":
                raise KeyboardInterrupt
            raise DestinationDownError("smtp: OSError")

        def close(self) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr(previewing, "destinations", lambda *_, **__: (Server(), ()))
        found = preview(settings, "cart_recovery", step="email_offer")
        if end == "killed":
            with pytest.raises(KeyboardInterrupt):
                send_tests(settings, found)
        else:
            (row,) = send_tests(settings, found).to_dicts()
            assert (row["state"], row["reason"]) == ("dead", "smtp: OSError")
    send_tests(settings, found)
    with Ledger(settings.ledger) as ledger:
        states = set(ledger.tests()["state"])
    assert states == ({"unknown", "sent"} if end == "killed" else {"dead", "sent"})


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("email: us@shop.example", "email: expected a list of texts"),
        ("emial: [us@shop.example]", "did you mean email"),
        ("- us@shop.example", "expected channels with addresses"),
        ("email: [a@b.example]\nemail: [c@d.example]", "email is there twice"),
        ("email: [", "cannot be read"),
    ],
)
def test_a_seed_list_that_cannot_be_meant_is_named_with_the_mend(
    tmp_path: Path, text: str, mend: str
) -> None:
    path = tmp_path / "seed_list.yml"
    path.write_text(text)
    with pytest.raises(PreviewError, match=mend) as refusal:
        read_seed_list(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("cart_recovry", None, None), "did you mean cart_recovery"),
        (("cart_recovery", "email_ofer", None), "did you mean email_offer"),
        (("cart_recovery", "email_offer", "sms"), "it is one of email|is email"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    home: TestHome, asked: tuple[str, str | None, str | None], said: str
) -> None:
    journey, step, channel = asked
    with pytest.raises(PreviewError, match=said):
        preview(home.settings, journey, step=step, channel=channel)


@given(st.text(alphabet="aé€😀{", max_size=200))
def test_a_text_message_is_measured_as_it_is_sent(text: str) -> None:
    facts = dict(sms_facts(text, str(sms_segments(text))))
    assert facts["Encoding"].startswith("UCS-2" if "😀" in text else "GSM-7")
    assert facts.get("Not in GSM-7") == ("😀" if "😀" in text else None)


@given(st.text(max_size=80), st.sampled_from([*PUSH_CUTS.values()]))
def test_a_push_is_cut_where_a_screen_ends(text: str, room: tuple[int, int]) -> None:
    shown = cut(text, room[0])
    assert len(shown) <= room[0]
    assert shown == text or text.startswith(shown[:-1])


@pytest.fixture
def own_content(home: TestHome) -> Iterator[Path]:
    """A brand's own content."""
    content = home.settings.config / "content"
    shutil.copytree(PROJECT / "activations" / "content", content)
    yield content


@pytest.mark.parametrize("harm", ["brand", "layout"])
def test_marketing_without_a_postal_address_is_refused_where_mail_goes_out(
    home: TestHome, own_content: Path, harm: str
) -> None:
    path = own_content / ("brand.yml" if harm == "brand" else "_layout.email.liquid")
    instead = {"brand": 'postal_address: ""', "layout": ""}[harm]
    path.write_text(
        "".join(
            f"{instead if 'postal_address' in line else line}\n"
            for line in path.read_text().splitlines()
        )
    )
    live = {"REKINDLE_LIVE": "true"}
    refused = home.rekindle("check", check=False, **live)
    assert refused.returncode == 1
    assert "postal_address" in refused.stdout
    (each,) = preview(home.settings, "cart_recovery", step="email_offer").shown
    assert each.message, "files may do without"
