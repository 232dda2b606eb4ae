-- One row per journey and profile whose entry conditions all hold at this as_of.
with

run as (

    select * from {{ ref('stg_run') }}

),

journeys as (

    select
        *,
        case
            when needs_open_misstep then 'misstep'
            when cardinality(entry_intents) > 0 then 'intent'
            else 'phase'
        end as trigger_kind
    from {{ ref('stg_journeys') }}

),

missteps as (

    select * from {{ ref('missteps') }}
    where is_open

),

profiles as (

    select * from {{ ref('profiles') }}

),

phases as (

    select * from {{ ref('phases') }}

),

intents as (

    select * from {{ ref('intents') }}

),

oldest_missteps as (

    select * from missteps
    qualify row_number() over (
        partition by profile_id order by opened_at asc, evidence_message_id asc
    ) = 1

),

-- an open misstep, the intent, the phase: each can begin a journey now
triggers as (

    select
        profile_id,
        'misstep' as trigger_kind,
        kind as trigger_value,
        evidence_message_id,
        opened_at as triggered_at
    from oldest_missteps

    union all

    select
        profile_id,
        'intent' as trigger_kind,
        intent as trigger_value,
        evidence_message_id,
        intent_at as triggered_at
    from intents
    where intent <> 'none'

    union all

    select
        profile_id,
        'phase' as trigger_kind,
        phase_name as trigger_value,
        evidence_message_id,
        entered_at as triggered_at
    from phases

),

match_conditions as (

    select
        journeys.journey,
        journeys.version as journey_version,
        journeys.definition_hash,
        journeys.message_class,
        journeys.holdout_rate,
        journeys.re_eligible_after_seconds,
        triggers.profile_id,
        triggers.trigger_value,
        triggers.evidence_message_id,
        triggers.triggered_at,
        profiles.identifier_type,
        profiles.identifier,
        intents.product_id,
        intents.product_name,
        intents.category,
        intents.price as product_price,
        intents.cart_value_amount
    from journeys
    inner join triggers on journeys.trigger_kind = triggers.trigger_kind
    inner join profiles on triggers.profile_id = profiles.profile_id
    left join phases on triggers.profile_id = phases.profile_id
    left join intents on triggers.profile_id = intents.profile_id
    cross join run
    where
        (
            cardinality(journeys.entry_intents) = 0
            or array_contains(journeys.entry_intents, intents.intent)
        )
        and (
            cardinality(journeys.entry_phases) = 0
            or array_contains(journeys.entry_phases, phases.phase_name)
        )
        and profiles.order_count >= journeys.minimum_order_count
        and (
            journeys.entry_within_seconds is null
            or {{ add_seconds(
                'triggers.triggered_at', 'journeys.entry_within_seconds'
            ) }} > run.as_of
        )

)

select * from match_conditions
