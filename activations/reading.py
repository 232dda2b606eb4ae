"""Authors' YAML files: read and checked, mistakes by file, line and field.

What a file may hold is said where its kind is (`blueprint`, `audiences`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Generic, TypeVar

import yaml
from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from activations.parts import FORMS, Location, Part, duration_text, nearest

MAX_BYTES = 1_000_000
MAX_LEVELS = 32
SUFFIXES = (".yml", ".yaml")

Contradiction = tuple[Location, str]
Authored = TypeVar("Authored", bound=Part)


@dataclass(frozen=True)
class Problem:
    """What keeps an author's file from being used: where it stands, and its mend.

    `name` is that of the journey or audience which is set aside for it.
    """

    name: str
    file: str
    line: int | None
    field: str
    reason: str
    code: str = "malformed"
    witness: str = ""

    def __str__(self) -> str:
        line = "" if self.line is None else f"{self.line}:"
        witness = f" ({self.witness})" if self.witness else ""
        return f"{self.file}:{line} {self.field}: {self.reason}{witness} [{self.code}]"


class AuthoredError(ValueError):
    """A file that cannot be used; the message names the file and the field."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(dict.fromkeys(map(str, problems))))
        self.problems = tuple(problems)


class AuthoredSchema(GenerateJsonSchema):
    """JSON schema in which a duration is written as authors write it."""

    def encode_default(self, dft: object) -> object:
        """A default as it would be written."""
        if isinstance(dft, timedelta):
            return duration_text(dft)
        return super().encode_default(dft)


@dataclass(frozen=True)
class Kind(Generic[Authored]):
    """A kind of authors' files: what one holds and what may not be in it together.

    `field` is the one that names it, as the file does. `parts` are the parts by the
    field or the tag that holds them, `tags` what stands in a location of pydantic's
    and in no file.
    """

    field: str
    model: type[Authored]
    parts: Mapping[str, type[Part]]
    tags: frozenset[str]
    contradictions: Callable[[Authored], Iterable[Contradiction]]

    def schema(self) -> dict[str, object]:
        """What editors need to help authors: the JSON schema of a file."""
        return self.model.model_json_schema(schema_generator=AuthoredSchema)

    def read_file(self, path: Path) -> Authored:
        """Read one file.

        Raises:
            AuthoredError: naming file, line and field of each mistake, and its mend.
        """
        source = Source(path)
        written = source.read()
        if not isinstance(written, dict):
            reason = f"expected fields, as `{self.field}: name`"
            raise AuthoredError([source.problem((), reason)])
        try:
            authored = self.model.model_validate(written)
        except ValidationError as error:
            raise AuthoredError(list(self._explain(error.errors(), source))) from None
        problems = [
            source.problem(location, reason)
            for location, reason in self.contradictions(authored)
        ]
        name = getattr(authored, self.field)
        if name != path.stem:
            reason = f"is called {name}, so the file must be {name}{path.suffix}"
            # either name may be the wrong one, and either may be in use
            problems += [
                source.problem((self.field,), reason, name=either)
                for either in (source.name, name)
            ]
        if problems:
            raise AuthoredError(problems)
        return authored

    def read_folder(self, folder: Path) -> tuple[dict[str, Authored], list[Problem]]:
        """What the files of a folder hold, by name, and what keeps others from use.

        A folder inside is not read: it is a place to put files away.
        """
        paths = authored_files(folder)
        read: dict[str, Authored] = {}
        problems: list[Problem] = []
        stems = Counter(path.stem for path in paths)
        for path in paths:
            if stems[path.stem] > 1:
                source = Source(path)
                others = [p.name for p in paths if p.stem == path.stem and p != path]
                reason = (
                    f"{printable(others[0])} is the same {self.field}; keep one file"
                )
                problems.append(source.problem((), reason))
                continue
            try:
                read[path.stem] = self.read_file(path)
            except AuthoredError as error:
                problems += error.problems
        # a copy that still bears the name of another does not stop that one
        return read, [problem for problem in problems if problem.name not in read]

    def _explain(
        self, errors: Sequence[ErrorDetails], source: "Source"
    ) -> Iterator[Problem]:
        """Each mistake once, in the author's words."""
        located = [
            (tuple(part for part in error["loc"] if part not in self.tags), error)
            for error in errors
        ]
        for location, error in located:
            is_own = all(
                other == location or other[: len(location)] != location
                for other, _ in located
            )
            # a list counts as too short when what it holds is wrong
            if error["type"] != "too_short" or is_own:
                yield source.problem(location, self._reason(location, error))

    def _reason(self, location: Location, error: ErrorDetails) -> str:
        kind, wrong, context = error["type"], error["input"], error.get("ctx", {})
        if kind == "extra_forbidden":
            holders = [part for part in error["loc"][:-1] if part in self.parts]
            holder = self.parts[str(holders[-1])] if holders else self.model
            fields = [info.alias or name for name, info in holder.model_fields.items()]
            return f"there is no such field; {nearest(location[-1], fields)}"
        if kind == "literal_error":
            allowed = re.findall(r"'([^']*)'", str(context["expected"]))
            return f"'{wrong}' is not allowed; {nearest(wrong, allowed)}"
        if kind == "string_pattern_mismatch":
            return f"'{wrong}' does not fit; {FORMS[context['pattern']]}"
        return MENDS.get(kind) or error["msg"].removeprefix("Value error, ")


def authored_files(folder: Path) -> list[Path]:
    """The files of a folder that authors keep in use."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


# What pydantic says of these would not help an author.
MENDS = {
    "missing": "is missing; add it",
    "invalid_key": "expected a name; put a number, yes or no in quotes",
    "string_type": "expected words; put a number, a date, yes or no in quotes",
    "model_type": "expected fields, as `name: value`",
    "dict_type": "expected fields, as `name: value`",
    "tuple_type": "expected a list, as `[one, two]`",
}


class Source:
    """A file as its author sees it: which line says what, and what twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root: yaml.Node | None = None
        self.file = printable(path.name)
        self.name = printable(path.stem)

    def problem(self, location: Location, reason: str, **changes: str) -> Problem:
        """A problem of what stands at `location`."""
        return Problem(
            **{"name": self.name, "file": self.file, **changes},
            line=self._line(location),
            field=_field(location),
            reason=reason,
        )

    def read(self) -> object:
        """What the file says.

        Raises:
            AuthoredError: if it is no YAML, or gives a key twice.
        """
        try:
            text = read_text(self._path)
            self._root = compose(text)
            twice = list(keys_twice(self._root))
            value = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else None
            said = ", ".join(filter(None, (error.context, error.problem)))
            problem = Problem(self.name, self.file, line, "file", _no_yaml(said))
            raise AuthoredError([problem]) from None
        # a date that is none is a ValueError, as are bytes that are not UTF-8
        except (yaml.YAMLError, ValueError, OSError) as error:
            raise AuthoredError([self.problem((), _no_yaml(str(error)))]) from None
        if twice:
            raise AuthoredError(
                [
                    Problem(self.name, self.file, line, _field(key), reason)
                    for key, line, reason in twice
                ]
            )
        return value

    def _line(self, location: Location) -> int | None:
        """The line of the deepest part of `location` that the file holds."""
        node, line = self._root, None
        for part in location:
            if isinstance(node, yaml.MappingNode):
                pairs = [pair for pair in node.value if pair[0].value == part]
                if not pairs:
                    break
                line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                if part >= len(node.value):
                    break
                node = node.value[part]
                line = node.start_mark.line + 1
        return line


def read_text(path: Path) -> str:
    """What an author's file says, in whatever editor it was written.

    Raises:
        OSError: if it is no file, as a pipe that nobody will ever write to.
        ValueError: if it is not UTF-8, or too large to be written by hand.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("it is larger than 1 MB")
    return path.read_text("utf-8-sig")


def compose(text: str) -> yaml.Node | None:
    """What an author's YAML holds, with the line of each part.

    Raises:
        yaml.YAMLError: if it is no YAML, or nested more than 32 levels deep, which
            PyYAML composes for minutes before it gives up.
    """
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_LEVELS:
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise yaml.YAMLError(f"nested too deeply in line {line}")
    return yaml.compose(text, yaml.SafeLoader)


def keys_twice(
    root: yaml.Node | None,
    location: Location = (),
    seen: set[int] | None = None,
) -> Iterator[tuple[Location, int, str]]:
    """Each key that a mapping gives twice: YAML takes the last of them in silence."""
    # what an alias repeats is looked at once: it may lead back to where it stands
    seen = set() if seen is None else seen
    if root is None or id(root) in seen:
        return
    seen.add(id(root))
    if isinstance(root, yaml.SequenceNode):
        for index, item in enumerate(root.value):
            yield from keys_twice(item, (*location, index), seen)
    elif isinstance(root, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in root.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                reason = f"stands here and in line {first[name]}; keep one"
                yield (*location, name), line, reason
            first.setdefault(name, line)
            yield from keys_twice(value, (*location, name), seen)


def printable(name: str) -> str:
    """A file's name as tables and terminals can hold it."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _no_yaml(said: object) -> str:
    return f"cannot be read as YAML: {' '.join(str(said).split())}"


def _field(location: Location) -> str:
    """Write a pydantic location as `steps[2].content`."""
    written = ""
    for part in location:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            written += f".{part}" if written else part
    return written or "file"
