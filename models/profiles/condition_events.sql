-- One row per test for an event and message of somebody that passes it.
with

run as (

    select * from {{ ref('stg_run') }}

),

conditions as (

    select * from {{ ref('stg_conditions') }}
    where kind in ('event', 'without')

),

event_names as (

    select distinct
        conditions.name,
        {{ spelled('conditions.name') }} as spelled_name,
        meanings.kind,
        meanings.action,
        meanings.channel
    from conditions
    left join {{ ref('semantic_events') }} as meanings
        on
            {{ spelled('conditions.name') }} = {{ spelled('meanings.event') }}
            and meanings.kind <> 'other'

),

stated_names as (

    select distinct
        event,
        {{ spelled('event') }} as spelled_event,
        kind,
        action,
        implied_channel
    from {{ ref('stg_events') }}
    where type = 'track'

),

-- the event of this name, however a tool calls it
same_names as (

    select distinct
        event_names.name,
        stated_names.event
    from event_names
    inner join stated_names
        on
            event_names.spelled_name = stated_names.spelled_event
            or (
                event_names.kind = stated_names.kind
                and event_names.action = stated_names.action
                and event_names.channel
                is not distinct from stated_names.implied_channel
            )

),

named_events as (

    select
        same_names.name,
        events.message_id,
        events.occurred_at,
        events.properties,
        profile_events.profile_id
    from {{ ref('stg_events') }} as events
    inner join same_names on events.event = same_names.event
    inner join {{ ref('profile_events') }} as profile_events
        on events.message_id = profile_events.message_id
    where
        events.type = 'track'
        and (
            not coalesce(events.is_bot, false)
            or events.kind not in ('message', 'other')
        )

),

read_properties as (

    select
        conditions.journey,
        conditions.audience,
        conditions.place,
        conditions.step,
        conditions.alternative,
        conditions.test,
        conditions.kind,
        conditions.property_tests,
        named_events.message_id,
        named_events.profile_id,
        named_events.occurred_at,
        list_transform(
            conditions.property_tests,
            lambda asked: {{ json_text_at(
                'named_events.properties', "'$.' || struct_extract(asked, 'name')"
            ) }}
        ) as found_values
    from conditions
    inner join named_events on conditions.name = named_events.name

),

keep_passing as (

    select
        read_properties.journey,
        read_properties.audience,
        read_properties.place,
        read_properties.step,
        read_properties.alternative,
        read_properties.test,
        read_properties.kind,
        read_properties.message_id,
        read_properties.profile_id,
        read_properties.occurred_at
    from read_properties
    cross join run
    where
        {{ passes_all(
            'read_properties.property_tests', 'read_properties.found_values', 'run.as_of'
        ) }}

)

select * from keep_passing
