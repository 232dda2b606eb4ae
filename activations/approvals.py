"""Journeys that somebody approves before they send: what was approved, and what waits.

An approval is of a journey as it is written, words included: whatever changes in either
waits for another.
"""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from activations.blueprint import Journey, needed_contents
from activations.reading import Problem, Source, authored_files

NEEDS_REVIEW = "needs-review"


class ApprovalError(ValueError):
    """An approval that cannot be read or given; in one line, with the mend."""


@dataclass(frozen=True)
class Approval:
    """A line of the file: who approved which state of a journey, and when."""

    journey: str
    digest: str
    approved_by: str
    approved_at: str


COLUMNS = tuple(field.name for field in fields(Approval))


def read_approvals(path: Path) -> list[Approval]:
    """The approvals of a file; none where there is no file.

    Raises:
        ApprovalError: if the file or a line of it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ApprovalError(f"{path}:1: expected {','.join(COLUMNS)}")
            approvals = []
            for row in reader:
                if None in row or None in row.values():
                    raise ApprovalError(
                        f"{path}:{reader.line_num}: expected {len(COLUMNS)} values"
                    )
                approvals.append(Approval(**row))
            return approvals
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ApprovalError(f"{path} cannot be read: {error}") from None


def add_approval(path: Path, approval: Approval) -> None:
    """Add a line to the file, which is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(approval))


def digest(journey: Journey, content: Path) -> str:
    """Changes whenever the journey or a word that it may send changes."""
    state = hashlib.sha256(journey.definition_hash.encode())
    for content_id, channel in sorted(needed_contents([journey])):
        name = f"{journey.journey}/{content_id}.{channel}.liquid"
        state.update(f"\0{name}\0".encode())
        state.update((content / name).read_bytes())
    return state.hexdigest()


def unapproved(
    journeys: Sequence[Journey],
    approvals: Sequence[Approval],
    folder: Path,
    content: Path,
) -> Iterator[Problem]:
    """A problem of each journey of a folder that waits to be approved."""
    given = {(approval.journey, approval.digest) for approval in approvals}
    paths = {path.stem: path for path in authored_files(folder)}
    for journey in journeys:
        if journey.approval is None:
            continue
        if (journey.journey, digest(journey, content)) in given:
            continue
        source = Source(paths[journey.journey])
        source.read()
        was = any(approval.journey == journey.journey for approval in approvals)
        yield source.problem(
            ("approval",),
            f"{'changed since it was approved' if was else 'waits to be approved'}; "
            f"`rekindle approve {journey.journey}` lets it send as it is now",
            code=NEEDS_REVIEW,
        )
