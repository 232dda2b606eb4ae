"""`rekindle mcp`: what a home knows, for clients of the Model Context Protocol.

Reads the published copy and authors' files, over stdin and stdout alone. No tool
changes anything, and none is offered that could.
"""

import json
from collections.abc import Iterator
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from activations.approvals import ApprovalError
from activations.reading import AuthoredError
from orchestration import doctor, why
from orchestration.labels import Labels
from orchestration.report.parts import Cell, Page, Source, Table
from orchestration.report.writing import read_pages
from orchestration.settings import Settings, parse_moment
from orchestration.sources.authored import read_authored
from orchestration.warehouse import DatabaseError, Warehouse

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
INSTRUCTIONS = (
    "Rekindle wins customers back. `metrics` says what the newest run found, `why` "
    "what was decided for one person, `doctor` what needs a hand, `check` which files "
    "of journeys and audiences have mistakes. Credited revenue is no proof: only what "
    "the page Caused says is proved was caused."
)
PERSONAL_OR_LONG = {"person", "messages"}

Content = dict[str, Any]


def make_server(settings: Settings) -> MCPServer:
    """The server of a home, with its tools."""
    server = MCPServer("rekindle", instructions=INSTRUCTIONS, log_level="ERROR")

    @server.tool(name="why", annotations=READS)
    def explain(person: str, as_of: str | None = None) -> Content:
        """What was decided for a person, by which rules and on what evidence.

        `person` is any identifier (value or type:value) or a profile id; `as_of` an
        ISO 8601 moment, by default that of the newest run.
        """
        try:
            moment = parse_moment(as_of) if as_of else None
            with Warehouse(settings.published).connect(read_only=True) as connection:
                answer = why.explain(connection, person, moment)
        except (why.WhyError, DatabaseError, ValueError) as error:
            raise ToolError(str(error)) from None
        return plain({"in_words": list(why.in_words(answer)), **answer.as_dict()})

    @server.tool(annotations=READS)
    def check() -> Content:
        """Mistakes in audiences, journeys and contents, by file, line and code."""
        try:
            authored = read_authored(settings)
        except (AuthoredError, ApprovalError) as error:
            raise ToolError(str(error)) from None
        problems = [*authored.audience_problems, *authored.journey_problems]
        return plain(
            {
                "usable_journeys": [one.journey for one in authored.journeys],
                "usable_audiences": list(authored.audiences),
                "mistakes": [vars(problem) for problem in problems],
            }
        )

    @server.tool(name="doctor", annotations=READS)
    def examine() -> Content:
        """How fresh, able and sound the home is, and what needs a hand."""
        try:
            return plain(doctor.examine(settings).as_dict())
        except DatabaseError as error:
            raise ToolError(str(error)) from None

    @server.tool(annotations=READS)
    def metrics() -> Content:
        """What the newest run found: each page of the report with its figures."""
        try:
            with Warehouse(settings.published).connect(read_only=True) as connection:
                source = Source(connection, Labels.read(connection))
                pages = read_pages(source, settings)
                return plain(
                    {
                        "as_of": source.as_of,
                        "currency": source.currency,
                        "pages": [
                            describe(page)
                            for page in pages
                            if page.slug not in PERSONAL_OR_LONG
                        ],
                    }
                )
        except DatabaseError as error:
            raise ToolError(str(error)) from None

    return server


def describe(page: Page) -> Content:
    """A page without its looks."""
    return {
        "page": page.name,
        "finding": page.finding,
        "about": page.lead,
        "figures": {figure.label: figure.value for figure in page.figures},
        "tables": [
            {"title": section.table.caption, "rows": list(rows_of(section.table))}
            for section in page.sections
            if section.table
        ],
    }


def rows_of(table: Table) -> Iterator[dict[str, str]]:
    """The rows of a table, each value under its heading."""
    for row in table.rows:
        texts = [cell.text if isinstance(cell, Cell) else cell for cell in row]
        yield dict(zip(table.headings, texts, strict=True))


def plain(content: Content) -> Content:
    """Content as JSON holds it; amounts and moments as text."""
    read: Content = json.loads(json.dumps(content, default=str))
    return read
