"""A landed line taken apart: the fields of its envelope, or why it is rejected.

The SQL here is all that decides what a good line is, whichever reader brought it.
https://segment.com/docs/connections/spec/common/
"""

from orchestration.settings import END, EPOCH

TYPES = ("track", "identify", "page", "screen", "alias", "group")

FIELDS = {
    "messageId": "message_id",
    "type": "type",
    "event": "event",
    "name": "name",
    "userId": "user_id",
    "anonymousId": "anonymous_id",
    "previousId": "previous_id",
    "groupId": "group_id",
    "timestamp": "timestamp",
    "originalTimestamp": "original_timestamp",
    "sentAt": "sent_at",
    "receivedAt": "received_at",
    "context": "context",
    "properties": "properties",
    "traits": "traits",
}
"""Every field that is read, in camelCase, and its name in snake_case."""

ARRIVALS = """
    file_id varchar,
    line_number bigint,
    message_id varchar,
    type varchar,
    event varchar,
    anonymous_id varchar,
    user_id varchar,
    occurred_at timestamp,
    received_at timestamp,
    context json,
    properties json,
    traits json,
    reason varchar,
    raw varchar
"""
"""The columns of a line taken apart; a good line has no `reason`."""

EARLIEST, LATEST = str(EPOCH.date()), str(END.date())
"""Moments from the first day to before the second are times of events.

What lies outside is a default, a placeholder or a broken clock, and would overflow the
arithmetic of some reader downstream.
"""

NUL = r"\u0000"


def parse_events(lines: str) -> str:
    """The query that turns (file_id, line_number, line, problem, is_cut) into arrivals.

    `problem` is what a reader already found wrong; `is_cut` marks a last line that no
    line feed ends. Blank lines are no lines.
    """
    return f"""
    with

    extract_fields as (

        select
            *,
            -- where one of many fails, try takes them one by one
            try(case
                when json_valid(line) then json_extract_string(line, [{paths()}])
            end) as fields
        from ({lines})
        where problem is not null or line is null or regexp_matches(line, '[^ \\t\\r]')

    ),

    name_fields as (

        select
            file_id,
            line_number,
            line,
            problem,
            is_cut,
            fields is not null as is_json,
            {holds_quoted_object("line")} as has_quoted_object,
            nullif(trim({text("messageId")}), '') as message_id,
            lower(trim({text("type")})) as type,
            {text("event")} as event,
            {text("name")} as name,
            nullif(trim({text("anonymousId")}), '') as anonymous_id,
            nullif(trim({text("userId")}), '') as user_id,
            {text("previousId")} as previous_id,
            {text("groupId")} as group_id,
            nullif(trim({text("timestamp")}), '') as timestamp_text,
            nullif(trim({text("originalTimestamp")}), '') as original_text,
            nullif(trim({text("sentAt")}), '') as sent_text,
            nullif(trim({text("receivedAt")}), '') as received_text,
            {text("context")} as context_text,
            {text("properties")} as properties_text,
            {text("traits")} as traits_text
        from extract_fields

    ),

    read_types as (

        select
            *,
            {moment("timestamp_text")} as timestamp_at,
            {moment("original_text")} as original_at,
            {moment("sent_text")} as sent_at,
            {moment("received_text")} as received_at,
            try_cast(context_text as json) as context,
            try_cast(properties_text as json) as properties,
            try_cast(traits_text as json) as traits
        from name_fields

    ),

    mend_clocks as (

        select
            *,
            case when timestamp_at is null then
                {in_bounds("received_at - (sent_at - original_at)")}
            end as mended_at
        from read_types

    ),

    judge as (

        select
            *,
            case
                when problem is not null then problem
                when not is_json and is_cut
                    then 'not JSON: the last line is cut off'
                when not is_json then 'not JSON'
                when not starts_with(line, '{{')
                    and not starts_with(ltrim(line, e' \\t\\r'), '{{')
                    then 'not a JSON object'
                when {holds_no_number("line")} then 'not JSON: NaN or Infinity'
                when {holds_nul("line")} then 'holds the character NUL'
                {unless_scalar("messageId", "message_id")}
                when message_id is null then 'messageId is missing'
                {unless_scalar("type", "type")}
                when coalesce(type, '') = '' then 'type is missing'
                when type not in ({quoted(TYPES)})
                    then 'type: "' || left(type, 40) || '" is not one of '
                        || '{", ".join(TYPES)}'
                {unless_scalar("userId", "user_id")}
                {unless_scalar("anonymousId", "anonymous_id")}
                when user_id is null and anonymous_id is null
                    then 'userId and anonymousId are missing'
                {unless_scalar("event", "event")}
                {unless_scalar("name", "name")}
                {unless_scalar("previousId", "previous_id")}
                {unless_scalar("groupId", "group_id")}
                {unless_moment("timestamp", "timestamp_text", "timestamp_at")}
                {unless_moment("receivedAt", "received_text", "received_at")}
                {
        unless_moment(
            "sentAt",
            "sent_text",
            "sent_at",
            "(timestamp_text is null or received_text is null)",
        )
    }
                {
        unless_moment(
            "originalTimestamp",
            "original_text",
            "original_at",
            "timestamp_text is null",
        )
    }
                when coalesce(timestamp_at, received_at, sent_at, original_at) is null
                    then 'timestamp, receivedAt and sentAt are missing'
                {unless_object("context")}
                {unless_object("properties")}
                {unless_object("traits")}
            end as reason
        from mend_clocks

    )

    select
        file_id,
        line_number,
        message_id,
        type,
        case when type in ('page', 'screen') then coalesce(name, event) else event end
            as event,
        anonymous_id,
        user_id,
        coalesce(
            timestamp_at,
            mended_at,
            original_at,
            received_at,
            sent_at
        ) as occurred_at,
        coalesce(received_at, sent_at, timestamp_at, original_at) as received_at,
        context,
        case
            when type = 'alias' and previous_id is not null
                then {with_property("previousId", "previous_id")}
            when type = 'group' and group_id is not null
                then {with_property("groupId", "group_id")}
            else properties
        end as properties,
        traits,
        reason,
        case when reason is not null then coalesce(line, '') end as raw
    from judge
    """


def content_hash() -> str:
    """The hash that chooses between two arrivals of one message received at one time.

    Over what is kept of the message, so that it is the same from every file format.
    """
    columns = (
        *("type", "event", "anonymous_id", "user_id", "occurred_at"),
        *("context", "properties", "traits"),
    )
    values = ", ".join(f"cast({column} as varchar)" for column in columns)
    return f"md5(cast(to_json([{values}]) as varchar))"


def paths() -> str:
    """The JSON path of every field under both its names."""
    names = [name for pair in FIELDS.items() for name in dict.fromkeys(pair)]
    return ", ".join(f"'$.{name}'" for name in names)


def text(field: str) -> str:
    """A field's text, under either of its names."""
    names = [name for pair in FIELDS.items() for name in dict.fromkeys(pair)]
    found = [
        f"fields[{names.index(name) + 1}]"
        for name in dict.fromkeys((field, FIELDS[field]))
    ]
    return f"coalesce({', '.join(found)})" if len(found) > 1 else found[0]


def moment(column: str) -> str:
    """An ISO 8601 text of any offset as naive UTC, else null; without offset it is UTC.

    The session's time zone must be UTC.
    """
    tidy = f"upper(replace({column}, ',', '.'))"
    return f"""case when {column} like '____-__-__%' then cast(coalesce(
                try_cast({column} as timestamptz), try_cast({tidy} as timestamptz)
            ) as timestamp) end"""


def in_bounds(instant: str) -> str:
    """A moment, or null where no event can have that time."""
    return f"""case
                when {instant} >= timestamp '{EARLIEST}'
                    and {instant} < timestamp '{LATEST}'
                    then {instant}
            end"""


def shape(field: str) -> str:
    """In words, what JSON holds in a field; looked at only where it is wrong."""
    names = dict.fromkeys((field, FIELDS[field]))
    kinds = ", ".join(f"nullif(json_type(line, '$.{name}'), 'NULL')" for name in names)
    return f"""case coalesce({kinds})
                when 'OBJECT' then 'an object'
                when 'ARRAY' then 'an array'
                when 'VARCHAR' then 'a string'
                when 'BOOLEAN' then 'a boolean'
                else 'a number'
            end"""


def unless_scalar(field: str, column: str) -> str:
    """The branch that rejects an object or array where a text belongs."""
    # A string may begin like an object; only what does is looked at closely.
    return f"""when (starts_with({column}, '{{') or starts_with({column}, '['))
                    and {shape(field)} in ('an object', 'an array')
                    then '{field} is '
                        || if(starts_with({column}, '['), 'an array', 'an object')"""


def unless_moment(
    field: str, column: str, moment_column: str, needed: str = "true"
) -> str:
    """The branch that rejects a time that is needed and is no time."""
    return f"""when {column} is not null
                    and {in_bounds(moment_column)} is null
                    and {needed}
                    then '{field}: "' || left({column}, 40)
                        || if(
                            {moment_column} is null,
                            '" is not ISO 8601',
                            '" is not between {EARLIEST} and {LATEST}'
                        )"""


def unless_object(field: str) -> str:
    """The branch that rejects anything else where an object belongs."""
    # A string that holds an object reads like the object, but for its quotes.
    return f"""when {field}_text is not null and (
                    not starts_with({field}_text, '{{')
                    or {field} is null
                    or (has_quoted_object and {shape(field)} <> 'an object')
                ) then '{field} is ' || {shape(field)} || ', not an object'"""


def holds_quoted_object(column: str) -> str:
    """Whether a string in a line may itself read as an object; rules most lines out."""
    # Needles that begin with a frequent character are slow to look for.
    return f"""(contains({column}, '{{\\') or contains({column}, '{{}}"')
                or contains({column}, '{{ '))"""


def holds_no_number(column: str) -> str:
    """Whether DuckDB's parser let pass what JSON has no word for."""
    bare = f"""regexp_replace({column}, '"(\\\\.|[^"\\\\])*"', '', 'g')"""
    return f"""(contains({column}, 'NaN') or contains({column}, 'Infinity'))
                    and regexp_matches({bare}, 'NaN|Infinity')"""


def holds_nul(column: str) -> str:
    """Whether a text in a line holds the character that ends texts elsewhere."""
    return f"""contains({column}, '{NUL}')
                    and regexp_matches({column}, '(^|[^\\\\])(\\\\\\\\)*\\{NUL}')"""


def with_property(name: str, column: str) -> str:
    """The properties and one field of the envelope that belongs to them."""
    return f"""json_merge_patch(
                    coalesce(properties, '{{}}'), json_object('{name}', {column})
                )"""


def quoted(values: tuple[str, ...]) -> str:
    """Texts as a list of SQL literals."""
    return ", ".join(f"'{value}'" for value in values)
