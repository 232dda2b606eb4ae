-- One row per test for an event and message of somebody that passes it.
with

conditions as (

    select * from {{ ref('stg_journey_conditions') }}
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
        journey,
        place,
        step,
        alternative,
        test,
        kind,
        message_id,
        profile_id,
        occurred_at
    from read_properties
    where
        cardinality(list_filter(
            list_zip(property_tests, found_values),
            lambda pair: not coalesce(
                case struct_extract(pair[1], 'comparison')
                    when 'in'
                        then list_contains(
                            struct_extract(pair[1], 'texts'), lower(pair[2])
                        )
                    when 'not_in'
                        then pair[2] is null or not list_contains(
                            struct_extract(pair[1], 'texts'), lower(pair[2])
                        )
                    when 'at_least'
                        then try_cast(pair[2] as double)
                            >= struct_extract(pair[1], 'number')
                    when 'at_most'
                        then try_cast(pair[2] as double)
                            <= struct_extract(pair[1], 'number')
                    when 'is_known' then pair[2] is not null
                    when 'is_unknown' then pair[2] is null
                end,
                false
            )
        )) = 0

)

select * from keep_passing
