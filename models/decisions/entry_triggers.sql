-- One row per profile and thing about it that can begin a journey now: an open misstep,
-- its intent, its phase.
with

missteps as (

    select * from {{ ref('missteps') }}
    where is_open

),

intents as (

    select * from {{ ref('intents') }}
    where intent <> 'none'

),

phases as (

    select * from {{ ref('phases') }}

),

oldest_missteps as (

    select * from missteps
    qualify row_number() over (
        partition by profile_id order by opened_at asc, evidence_message_id asc
    ) = 1

),

collect_triggers as (

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

    union all

    select
        profile_id,
        'phase' as trigger_kind,
        phase_name as trigger_value,
        evidence_message_id,
        entered_at as triggered_at
    from phases

)

select * from collect_triggers
