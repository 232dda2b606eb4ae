"""One row per spelling of a phone number: the number in E.164."""

import re

import phonenumbers
import polars as pl


def model(dbt, session):
    """Parse spellings not met before; one without country is taken as of the region."""
    dbt.config(
        materialized="incremental",
        incremental_strategy="append",
        on_schema_change="fail",
    )
    events = dbt.ref("stg_events")
    rules = dbt.ref("identity_rules")
    region = dbt.ref("stg_run").project("phone_region").fetchall()[0][0]
    if dbt.is_incremental:
        known = session.table(str(dbt.this))
        taken_in = known.aggregate("coalesce(max(batch_seq), 0)").fetchall()[0][0]
        events = events.filter(f"batch_seq > {taken_in}")
    batch_seq = dbt.ref("stg_run").project("run_seq").fetchall()[0][0]
    spellings = session.sql(
        """
        select json_extract_string(traits, '$.phone') as spelling from events
        union
        select distinct unnest(json_extract_string(properties, [
            '$.phone', '$.to', '$.from', '$.recipient', '$.customer.phone',
            '$.profile.phone', '$.profile.phone_number', '$.user.phone',
            '$.contact.phone', '$.subscriber.phone'
        ])) as spelling
        from events
        where kind in ('message', 'consent')
        union
        select user_id as spelling from events where user_id like '+%'
        union
        select anonymous_id as spelling from events where anonymous_id like '+%'
        union
        select unnest(json_extract_string(
            try_cast(external_ids as json), '$[*].id'
        )) as spelling
        from events
        where external_ids like '[%'
        union
        select json_extract_string(try_cast(external_ids as json), '$.id') as spelling
        from events
        where external_ids not like '[%'
        union
        select unnest([identifier, linked_identifier]) as spelling from rules
        where 'phone' in (identifier_type, linked_identifier_type)
        """
    )
    if dbt.is_incremental:
        spellings = session.sql("from spellings anti join known using (spelling)")
    texts = spellings.filter("spelling not like '%@%'").pl()["spelling"].sort()
    return pl.DataFrame(
        {
            "spelling": texts,
            "phone": [to_e164(text, region) for text in texts],
            "batch_seq": [batch_seq] * len(texts),
        },
        schema={"spelling": pl.String, "phone": pl.String, "batch_seq": pl.Int64},
    ).to_arrow()


def to_e164(spelling, region):
    """Return the number as + and digits, nothing if nobody could be called by it."""
    # data frames write whole numbers with a fraction
    whole = re.sub(r"^(\d{1,15})\.0+$", r"\1", spelling.strip())
    try:
        number = phonenumbers.parse(whole, region)
    except phonenumbers.NumberParseException:
        return None
    # a number without its area code is many people's; one digit repeated is nobody's
    length = phonenumbers.is_possible_number_with_reason(number)
    if length != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    if len(set(str(number.national_number))) == 1:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
