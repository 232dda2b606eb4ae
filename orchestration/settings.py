"""Every path and knob, typed, from `REKINDLE_*` variables or `.env`.

The only reader of the environment; everything else is handed a `Settings`.
"""

import difflib
import os
import re
from base64 import b64decode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from smtplib import SMTP_SSL_PORT
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    SettingsConfigDict,
)

from activations.addresses import sender_address
from activations.links import KEY_LENGTH

PROJECT = Path(__file__).resolve().parent.parent
SEEDS = PROJECT / "dbt_project" / "seeds"
EPOCH = datetime(1970, 1, 1)
END = datetime(2200, 1, 1)
PREFIX = "REKINDLE_"
MAX_DAYS = 36_500
ENV_FILE = Path(".env")
# No settings: what dbt is given of the home, and what tests are given.
OTHER_NAMES = ("WAREHOUSE", "TEST_")


PRINTABLE = r"^[\x20-\x7e]+$"
HOST = re.compile(r"[\w-]{1,63}(?:[.][\w-]{1,63})*[.]?")
URL_CHARACTERS = re.compile(r"[^\s\x00-\x1f\x7f<>\"?#\\]+")


class SettingsError(ValueError):
    """A setting is wrong or unknown: in one line, without any value."""


class Settings(BaseSettings):
    """What a user may turn; the defaults run the whole loop on files alone."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, extra="ignore"
    )

    def __init__(self, **values: Any) -> None:
        """Read the environment and `.env`; what is given wins.

        Raises:
            SettingsError: naming each variable that is wrong.
        """
        env_file = values.get("_env_file", ENV_FILE)
        names = [*os.environ, *(names_in(Path(env_file)) if env_file else [])]
        refuse_unknown(names, set(type(self).model_fields))
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems: dict[str, str] = {}
            for problem in error.errors(
                include_url=False, include_input=False, include_context=False
            ):
                problems.setdefault(str(problem["loc"][0]), problem["msg"])
            raise SettingsError(
                "; ".join(self.in_words(*problem) for problem in problems.items())
            ) from None

    @classmethod
    def in_words(cls, name: str, reason: str) -> str:
        """What is wrong with a setting, what it is, and how a right one looks."""
        field = cls.model_fields[name]
        example = field.examples[0] if field.examples else field.default
        looks = "" if example is None else f", e.g. {example}"
        reason = reason.removeprefix("Value error, ")
        return f"{PREFIX}{name.upper()}: {reason} ({field.description}{looks})"

    home: Path = Field(
        default=Path(".rekindle"), description="folder that holds all a run writes"
    )
    lookback_days: int | None = Field(
        default=None,
        ge=1,
        le=MAX_DAYS,
        examples=["30"],
        description="attribution look-back in days, over every channel's own",
    )
    base_currency: str | None = Field(
        default=None,
        pattern="^[A-Z]{3}$",
        examples=["EUR"],
        description="currency of money sums; unset: the currency of most orders",
    )
    horizon_days: Annotated[
        tuple[Annotated[int, Field(ge=1, le=MAX_DAYS)], ...], NoDecode
    ] = Field(
        default=(30, 90),
        min_length=1,
        examples=["30,90"],
        description="days ahead that purchase propensity looks, 30,90; the first leads",
    )
    retrain_days: int = Field(
        default=7,
        ge=1,
        le=MAX_DAYS,
        description="days after which an estimator is trained anew",
    )
    estimator_days: int = Field(
        default=60,
        ge=1,
        le=MAX_DAYS,
        description="days that a good estimator stays in use while newer ones fail",
    )
    time_zone: str = Field(
        default="UTC",
        description="the shop's IANA time zone: the clock of whoever's is not known",
    )
    phone_region: str = Field(
        default="US",
        pattern="^[A-Z]{2}$",
        description="region (ISO 3166) of phone numbers that name no country",
    )
    matching: bool = Field(
        default=False,
        description="propose links on what identify calls say (rekindle[match])",
    )
    match_threshold: float = Field(
        default=0.9,
        gt=0.5,
        lt=1,
        description="probability from which a proposed link is accepted",
    )
    live: bool = Field(
        default=False, description="send for real; off: only files are written"
    )
    smtp_host: str | None = Field(
        default=None,
        examples=["smtp.shop.example"],
        description="SMTP server for email",
    )
    smtp_port: int = Field(
        default=587, ge=1, le=65535, description="port of the SMTP server"
    )
    smtp_user: str | None = Field(
        default=None, pattern=PRINTABLE, description="user at the SMTP server"
    )
    smtp_password: SecretStr | None = Field(
        default=None, validate_default=True, description="password of that user"
    )
    smtp_starttls: bool = Field(
        default=True, validate_default=True, description="encrypt with STARTTLS"
    )
    email_from: str = Field(
        default="Rekindle <hello@example.com>", description="sender of emails"
    )
    memory_limit: str | None = Field(
        default=None,
        pattern="^[1-9][0-9]*[MGT]i?B$",
        examples=["8GB"],
        description="memory that DuckDB may take; unset: 80% of the machine's",
    )
    temp_folder: Path | None = Field(
        default=None,
        examples=["/scratch"],
        description="where DuckDB puts what memory cannot hold; unset: the home",
    )
    keep_runs_days: int = Field(
        default=7, ge=1, le=MAX_DAYS, description="days that Dagster remembers a run"
    )
    keep_payloads_days: int | None = Field(
        default=None,
        ge=1,
        le=MAX_DAYS,
        examples=["90"],
        description="days that the words of settled messages are kept; unset: for good",
    )
    keep_landed_days: int | None = Field(
        default=None,
        ge=1,
        le=MAX_DAYS,
        examples=["90"],
        description="days that landed files are kept; unset: for good",
    )
    shop_url: str = Field(
        default="https://shop.example",
        description="where links in messages lead",
    )
    inbound_url: str | None = Field(
        default=None,
        examples=["https://mail.shop.example"],
        description="where the world reaches `rekindle inbound`; unset: the shop's",
    )
    inbound_rate: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="requests a second that one source may make of `rekindle inbound`",
    )
    link_keys: SecretStr | None = Field(
        default=None,
        examples=["what `openssl rand -hex 32` prints"],
        description="keys, comma between, of links to unsubscribe: the first signs, "
        "all are read; unset: those of the file",
    )
    link_keys_file: Path | None = Field(
        default=None,
        examples=["/run/secrets/link_keys"],
        description="file of such keys, one a line; unset: link_keys in the home, "
        "made when it is needed",
    )
    write_keys: SecretStr | None = Field(
        default=None,
        description="keys, comma between, with which events may be sent to "
        "`rekindle inbound`",
    )
    sendgrid_webhook_key: str | None = Field(
        default=None, description="verification key of SendGrid's event webhook"
    )
    twilio_auth_token: SecretStr | None = Field(
        default=None, description="token by which Twilio signs its webhooks"
    )
    klaviyo_webhook_secret: SecretStr | None = Field(
        default=None, description="secret by which Klaviyo signs its webhooks"
    )
    braze_currents_token: SecretStr | None = Field(
        default=None, description="bearer token of Braze Currents"
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="secret (whsec_…) of webhooks by the Standard Webhooks spec",
    )

    @field_validator("home", mode="before")
    @classmethod
    def refuse_nowhere(cls, value: object) -> object:
        """Keep an empty home from being the folder that one happens to be in."""
        if value == "":
            raise ValueError("is empty; name a folder")
        return value

    @field_validator("home")
    @classmethod
    def refuse_no_folder(cls, value: Path) -> Path:
        """Find at once that a home cannot be one."""
        try:
            place = value.expanduser().resolve()
            nearest = next(path for path in (place, *place.parents) if path.exists())
        except (OSError, RuntimeError, ValueError):
            raise ValueError("cannot be the name of a folder") from None
        if not nearest.is_dir():
            raise ValueError("is a file, or in one; name a folder")
        return value

    @field_validator("temp_folder")
    @classmethod
    def refuse_what_is_no_folder(cls, value: Path | None) -> Path | None:
        """Find at once what DuckDB would find in the midst of a query."""
        try:
            is_folder = value is None or value.expanduser().resolve().is_dir()
        except (OSError, RuntimeError, ValueError):
            is_folder = False
        if not is_folder:
            raise ValueError("is no folder")
        return value

    @field_validator("phone_region")
    @classmethod
    def refuse_no_region(cls, value: str) -> str:
        """Take what libphonenumber knows: by another, no number could be read."""
        from phonenumbers import SUPPORTED_REGIONS

        if value not in SUPPORTED_REGIONS:
            raise ValueError("is no region that has phone numbers")
        return value

    @field_validator("matching")
    @classmethod
    def refuse_what_is_not_installed(cls, value: bool) -> bool:
        """Find at once what a run would find in its midst."""
        if value and find_spec("splink") is None:
            raise ValueError("needs Splink: pip install 'rekindle[match]'")
        return value

    @field_validator("smtp_host")
    @classmethod
    def refuse_no_host(cls, value: str | None) -> str | None:
        """Take a name or an address, without scheme and port."""
        if value is not None and not is_host(value):
            raise ValueError("is no name of a server")
        return value

    @field_validator("smtp_password")
    @classmethod
    def refuse_half_a_login(
        cls, value: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        """Find at once what a server would refuse, or what smtplib cannot say to it."""
        if value is None and info.data.get("smtp_user"):
            raise ValueError("is not set, and a user is")
        if value and not re.fullmatch(PRINTABLE, value.get_secret_value()):
            raise ValueError("has other characters than those of printable ASCII")
        return value

    @field_validator("smtp_starttls")
    @classmethod
    def refuse_an_open_login(cls, value: bool, info: ValidationInfo) -> bool:
        """Keep a password from going out where anybody can read it."""
        is_encrypted = value or info.data.get("smtp_port") == SMTP_SSL_PORT
        if info.data.get("smtp_user") and not is_encrypted:
            raise ValueError(
                "is off, and a password is sent over an encrypted session only"
            )
        return value

    @field_validator("email_from")
    @classmethod
    def refuse_no_sender(cls, value: str) -> str:
        """Take one address, with or without a name."""
        sender_address(value)
        return value

    @field_validator("link_keys")
    @classmethod
    def refuse_short_keys(cls, value: SecretStr | None) -> SecretStr | None:
        """Take keys that nobody can guess."""
        if value is not None and min(map(len, split_keys(value))) < KEY_LENGTH:
            raise ValueError(f"has a key of fewer than {KEY_LENGTH} characters")
        return value

    @field_validator("write_keys")
    @classmethod
    def refuse_useless_keys(cls, value: SecretStr | None) -> SecretStr | None:
        """Take keys that let in nobody else, and that Basic authorization can hold."""
        if value is not None and not all(
            key and ":" not in key for key in split_keys(value)
        ):
            raise ValueError("has an empty key, or one with a colon")
        return value

    @field_validator("sendgrid_webhook_key")
    @classmethod
    def refuse_no_public_key(cls, value: str | None) -> str | None:
        """Find at once what could verify nothing."""
        if value is None:
            return None
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        try:
            key = load_der_public_key(b64decode(value, validate=True))
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, EllipticCurvePublicKey):
            raise ValueError("is no public key as SendGrid shows it")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def refuse_no_secret(cls, value: SecretStr | None) -> SecretStr | None:
        """Take the base64 that the spec asks for, with or without whsec_."""
        if value is None:
            return None
        text = value.get_secret_value().removeprefix("whsec_").rstrip("=")
        try:
            is_secret = bool(b64decode(text + "=" * (-len(text) % 4), validate=True))
        except ValueError:
            is_secret = False
        if not is_secret:
            raise ValueError("is no base64, with or without whsec_ before it")
        return value

    @field_validator(
        "twilio_auth_token", "klaviyo_webhook_secret", "braze_currents_token"
    )
    @classmethod
    def refuse_an_empty_secret(cls, value: SecretStr | None) -> SecretStr | None:
        """Keep anybody from signing with a secret that is none."""
        if value is not None and not value.get_secret_value():
            raise ValueError("is empty")
        return value

    @field_validator("shop_url", "inbound_url")
    @classmethod
    def refuse_no_url(cls, value: str | None) -> str | None:
        """Take what a path of the shop can follow, encrypted as links have to be."""
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            is_whole = (
                parts.scheme == "https"
                and is_host(parts.hostname or "")
                and parts.port != 0
            )
        except ValueError:
            is_whole = False
        if not is_whole or not URL_CHARACTERS.fullmatch(value) or "@" in parts.netloc:
            raise ValueError("is no address of a site")
        return value

    @field_validator("time_zone")
    @classmethod
    def refuse_unknown_zone(cls, value: str) -> str:
        """Keep a misspelt zone from moving the night of everybody without one."""
        if value not in available_timezones():
            raise ValueError("is no IANA time zone, such as Europe/Berlin")
        return value

    @field_validator("horizon_days", mode="before")
    @classmethod
    def split_horizons(cls, value: object) -> object:
        """Take `30,90` as well as numbers; none comes twice."""
        if isinstance(value, str):
            value = value.strip("[()]").split(",")
        elif isinstance(value, int):
            value = (value,)
        return tuple(dict.fromkeys(value)) if isinstance(value, list | tuple) else value

    @property
    def root(self) -> Path:
        """The home as an absolute path."""
        return self.home.expanduser().resolve()

    @property
    def landing(self) -> Path:
        """Where event files are put, at any depth."""
        return self.root / "landing"

    @property
    def config(self) -> Path:
        """What a brand keeps of its own, in place of the checkout's."""
        return self.root / "config"

    @property
    def journeys(self) -> Path:
        """Journey files: those of the brand, else of the checkout."""
        return self._authored("journeys")

    @property
    def audiences(self) -> Path:
        """Audience files: those of the brand, else of the checkout."""
        return self._authored("audiences")

    @property
    def content(self) -> Path:
        """Contents, layouts and `brand.yml`: the brand's, else the checkout's."""
        return self._authored("content")

    @property
    def approvals(self) -> Path:
        """Which journeys were approved, by whom: a line each."""
        return self.config / "approvals.csv"

    def _authored(self, name: str) -> Path:
        own = self.config / name
        return own if own.is_dir() else PROJECT / "activations" / name

    @property
    def seeds(self) -> Path:
        """Seeds of the brand, each in place of the checkout's of that name."""
        return self.config / "seeds"

    def seed(self, name: str) -> Path:
        """The file of a seed: that of the brand, else of the checkout."""
        own = self.seeds / f"{name}.csv"
        return own if own.exists() else SEEDS / own.name

    @property
    def made_link_keys(self) -> Path:
        """Keys that sign links where no others are stated: made at first need."""
        return self.root / "link_keys"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that runs write."""
        return self.root / "warehouse.duckdb"

    def spill(self, warehouse: Path) -> Path:
        """Where DuckDB puts what memory cannot hold of a file: a folder of its own."""
        if self.temp_folder is None:
            return warehouse.with_name(f"{warehouse.name}.tmp")
        digest = sha256(os.fsencode(warehouse)).hexdigest()[:16]
        return self.temp_folder.expanduser().resolve() / f"rekindle-{digest}.tmp"

    @property
    def published(self) -> Path:
        """The read-only copy for BI, swapped atomically after each run."""
        return self.root / "published" / "warehouse.duckdb"

    @property
    def report(self) -> Path:
        """The pages of the newest run that hold counts and sums, and may be shared."""
        return self.published.parent / "report"

    @property
    def people(self) -> Path:
        """The pages of the newest run that show persons."""
        return self.published.parent / "people"

    @property
    def marts(self) -> Path:
        """Tables of the newest run as Parquet files, one each."""
        return self.published.parent / "marts"

    @property
    def past(self) -> Path:
        """Warehouses of moments that the main one has left behind, a folder each."""
        return self.root / "past"

    def past_warehouse(self, as_of: datetime) -> Path:
        """The warehouse as of a moment of the past: a file as the published copy is."""
        return self.past / f"{as_of:%Y%m%dT%H%M%S%fZ}" / self.warehouse.name

    @property
    def dry_run(self) -> Path:
        """The warehouse that the newest dry run left."""
        return self.root / "dry_run" / self.warehouse.name

    @property
    def past_work(self) -> Path:
        """Where a warehouse beside the main one is built, until it is whole."""
        return self.past / ".building"

    @property
    def ledger(self) -> Path:
        """The durable record of sends."""
        return self.root / "ledger.sqlite"

    @property
    def claims(self) -> Path:
        """Every claim of a send: a ledger that was put back is behind it."""
        return self.root / "claims.ndjson"

    @property
    def outbox(self) -> Path:
        """What the file destination wrote, a folder per channel."""
        return self.root / "outbox"

    @property
    def test_outbox(self) -> Path:
        """What the file destination wrote of messages to ourselves."""
        return self.root / "test_outbox"

    @property
    def seed_list(self) -> Path:
        """Addresses of ours by channel, to which messages are sent to be looked at."""
        return self.config / "seed_list.yml"

    @property
    def stopped(self) -> Path:
        """A file per channel that somebody stopped."""
        return self.root / "stopped"

    @property
    def estimators(self) -> Path:
        """Fitted estimators, a folder each."""
        return self.root / "estimators"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance: runs, events, schedules."""
        return self.root / "dagster"

    @property
    def runs_at_work(self) -> Path:
        """A file per run whose process lives, locked by it."""
        return self.dagster_home / "at_work"

    @property
    def dbt_target(self) -> Path:
        """Where dbt keeps what it compiled for this home."""
        return self.root / "dbt" / "target"

    @property
    def run_lock(self) -> Path:
        """Locked by whoever writes the home."""
        return self.root / "run.lock"

    @property
    def restoring(self) -> Path:
        """Present while the home is being put back from a backup."""
        return self.root / "restoring"

    @property
    def erasures(self) -> Path:
        """Hashes of the identifiers of erased people, and their pepper."""
        return self.root / "erasures"

    @property
    def erasing(self) -> Path:
        """Present while a person is being erased: who, and what is known of them."""
        return self.root / "erasing"

    @property
    def backups(self) -> Path:
        """Where backups of this home were made: they cannot be reached from here."""
        return self.root / "backups.ndjson"

    @property
    def demo_marker(self) -> Path:
        """Present in a home that `rekindle demo` made."""
        return self.root / "demo"

    @property
    def rehearsal(self) -> Path:
        """The home in which runs are made again; see `orchestration.backtest`."""
        return self.root / "rehearsal"

    @property
    def rehearsal_marker(self) -> Path:
        """Stands in a home whose runs contact nobody."""
        return self.root / "contacts_nobody"

    def training_cutoff(self, as_of: datetime) -> datetime:
        """`as_of` floored to the retraining grid of `retrain_days` since 1970."""
        grid = timedelta(days=self.retrain_days)
        return EPOCH + (as_of - EPOCH) // grid * grid


def environment() -> dict[str, str]:
    """All variables, of the process and of `.env`: where secrets are named to be."""
    written = dotenv_values(ENV_FILE) if ENV_FILE.is_file() else {}
    return {name: value or "" for name, value in {**written, **os.environ}.items()}


def is_host(text: str) -> bool:
    """Whether a text is the name or the address of a machine."""
    try:
        ip_address(text)
    except ValueError:
        return bool(HOST.fullmatch(text))
    return True


def names_in(env_file: Path) -> list[str]:
    """The variables of an env file; none where there is no file.

    Raises:
        SettingsError: if the file or a line of it cannot be read.
    """
    try:
        with env_file.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{env_file} cannot be read: {reason}") from None
    for binding in bindings:
        if binding.error:
            raise SettingsError(
                f"{env_file}, line {binding.original.line}: not NAME=value"
            )
    return [binding.key for binding in bindings if binding.key]


def refuse_unknown(names: Iterable[str], known: set[str]) -> None:
    """Refuse variables that look like settings and are none.

    Raises:
        SettingsError: naming them, and the settings that they resemble.
    """
    problems = []
    for name in sorted(set(names)):
        word = name.upper().removeprefix(PREFIX)
        is_ours = name.upper().startswith(PREFIX)
        if not is_ours or word.lower() in known or word.startswith(OTHER_NAMES):
            continue
        nearest = difflib.get_close_matches(word.lower(), known, n=1)
        hint = f": did you mean {PREFIX}{nearest[0].upper()}?" if nearest else ""
        problems.append(f"{name} is no setting{hint}")
    if problems:
        raise SettingsError("; ".join(problems))


def split_keys(keys: SecretStr) -> list[str]:
    """Keys that stand in one setting, the first first."""
    return [key.strip() for key in keys.get_secret_value().split(",")]


def precise_clock() -> datetime:
    """The UTC wall clock as a naive timestamp."""
    return datetime.now(UTC).replace(tzinfo=None)


def wall_clock() -> datetime:
    """The UTC wall clock as a naive timestamp, cut to the second."""
    return precise_clock().replace(microsecond=0)


def parse_moment(text: str) -> datetime:
    """An ISO 8601 moment as naive UTC; one without zone is taken as UTC.

    Raises:
        ValueError: if the text is no ISO 8601 date or timestamp, or one in which
            nothing that lands can have happened.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an ISO 8601 moment, e.g. 2026-06-30T20:00:00Z"
        ) from None
    # a zone may lead out of the years that a moment can have
    except OverflowError:
        moment = datetime.max
    if not EPOCH <= moment <= END:
        raise ValueError(f"{text!r} is not between {EPOCH.date()} and {END.date()}")
    return moment
