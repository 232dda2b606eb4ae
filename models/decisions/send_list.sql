-- One row per send that was ever decided, with all that it takes to deliver it.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    full_refresh=false,
) }}

with

verdicts as (

    select * from {{ ref('verdicts') }}
    where not is_waiting

),

decisions as (

    select * from {{ ref('decisions') }}
    where verdict = 'send'

),

profiles as (

    select * from {{ ref('profiles') }}

),

payloads as (

    select * from {{ ref('send_payloads') }}

),

sends as (

    select * from {{ ref('stg_sends') }}

),

address_sends as (

    select
        verdicts.send_id,
        decisions.decision_id,
        verdicts.as_of,
        verdicts.enrollment_id,
        verdicts.profile_id,
        profiles.identifier_type,
        profiles.identifier,
        verdicts.channel,
        verdicts.journey,
        verdicts.step,
        verdicts.message_class,
        verdicts.journey as campaign_id,
        verdicts.journey as campaign_name,
        verdicts.content_id,
        payloads.address,
        payloads.payload,
        decisions.choice_probability
    from verdicts
    inner join decisions on verdicts.candidate_id = decisions.decision_id
    inner join profiles on verdicts.profile_id = profiles.profile_id
    inner join payloads on verdicts.send_id = payloads.send_id

),

-- all of them in a warehouse that is not older than the ledger
known_sends as (

    select send_id from address_sends
    {% if is_incremental() %}
        union all
        select send_id from {{ this }}
    {% endif %}

),

bring_back_sends as (

    select
        sends.send_id,
        cast(null as varchar) as decision_id,
        sends.as_of,
        sends.enrollment_id,
        sends.profile_id,
        sends.identifier_type,
        sends.identifier,
        sends.channel,
        sends.journey,
        sends.step,
        sends.message_class,
        sends.journey as campaign_id,
        sends.journey as campaign_name,
        sends.content_id,
        cast(null as varchar) as address,
        cast(null as varchar) as payload,
        cast(null as double) as choice_probability
    from sends
    left join known_sends on sends.send_id = known_sends.send_id
    where known_sends.send_id is null

),

unite_sends as (

    select * from address_sends
    {% if is_incremental() %}
        where send_id not in (select sends.send_id from {{ this }} as sends)
    {% endif %}
    union all
    select * from bring_back_sends

)

select * from unite_sends
