-- One row per verdict on an enrollment, step and channel: a new one only when the
-- verdict or its reason changed, or first nothing but its arm stands against it.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    full_refresh=false,
) }}

with

run as (

    select * from {{ ref('stg_run') }}

),

verdicts as (

    select * from {{ ref('verdicts') }}
    where not is_waiting

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

arm_shares as (

    select distinct
        journey,
        step,
        arm_share
    from {{ ref('stg_journey_steps') }}

),

rules as (

    select * from {{ ref('rules') }}

),

{% if is_incremental() %}

    latest_decisions as (

        select decisions.*
        from {{ this }} as decisions
        cross join run
        where decisions.as_of < run.as_of
        qualify row_number() over (
            partition by decisions.enrollment_id, decisions.step, decisions.channel
            order by decisions.as_of desc, decisions.decision_id asc
        ) = 1

    ),

    -- files may land between two runs at the same as_of: who was written to is busy
    sends_of_this_run as (

        select
            decisions.decision_id,
            decisions.profile_id
        from {{ this }} as decisions
        cross join run
        where decisions.as_of = run.as_of and decisions.verdict = 'send'

    ),

{% else %}

    sends_of_this_run as (

        select
            verdicts.candidate_id as decision_id,
            verdicts.profile_id
        from verdicts
        inner join run on verdicts.as_of = run.as_of
        where verdicts.verdict = 'send'

    ),

{% endif %}

find_busy as (

    select verdicts.candidate_id
    from verdicts
    inner join sends_of_this_run
        on
            verdicts.profile_id = sends_of_this_run.profile_id
            and verdicts.candidate_id <> sends_of_this_run.decision_id
    where verdicts.verdict = 'send'
    group by verdicts.candidate_id

),

list_knobs as (

    select
        rule_order as place,
        concat_ws(
            ' ',
            rule,
            verdict,
            for_marketing,
            for_transactional,
            coalesce(cast(window_hours as varchar), ''),
            coalesce(cast(limit_value as varchar), '')
        ) as knobs
    from rules
    union all
    select
        0 as place,
        concat_ws(
            ' ',
            'cap',
            coalesce(channel, 'all'),
            coalesce(message_class, 'all'),
            window_hours,
            limit_value
        ) as knobs
    from {{ ref('frequency_caps') }}

),

fingerprint_rules as (

    select
        md5(cast({{ ordered_list('knobs', 'place asc, knobs asc') }} as varchar))
            as rules_hash
    from list_knobs

),

name_fields as (

    select
        verdicts.candidate_id as decision_id,
        verdicts.enrollment_id,
        verdicts.as_of,
        verdicts.profile_id,
        verdicts.journey,
        verdicts.step,
        verdicts.channel,
        case
            when find_busy.candidate_id is null then verdicts.verdict else 'held'
        end as verdict,
        case
            when find_busy.candidate_id is null then verdicts.reason
            else 'arbitration'
        end as reason,
        verdicts.reason_detail,
        verdicts.verdict_evidence_message_id as evidence_message_id,
        journeys.version || '-' || substr(journeys.definition_hash, 1, 8)
        || '-' || substr(fingerprint_rules.rules_hash, 1, 8) as rule_version,
        verdicts.choice_probability,
        arm_shares.arm_share,
        verdicts.is_withheld
    from verdicts
    inner join journeys on verdicts.journey = journeys.journey
    cross join fingerprint_rules
    left join arm_shares
        on
            verdicts.journey = arm_shares.journey
            and verdicts.step = arm_shares.step
    left join find_busy on verdicts.candidate_id = find_busy.candidate_id

)

select * from name_fields
{% if is_incremental() %}
    where
        decision_id not in (select decisions.decision_id from {{ this }} as decisions)
        and not exists (
            select 1 from latest_decisions
            where
                latest_decisions.enrollment_id = name_fields.enrollment_id
                and latest_decisions.step = name_fields.step
                and latest_decisions.channel = name_fields.channel
                and latest_decisions.verdict = name_fields.verdict
                and latest_decisions.reason = name_fields.reason
                and (latest_decisions.is_withheld or not name_fields.is_withheld)
        )
{% endif %}
