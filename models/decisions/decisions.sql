-- One row per verdict on an enrollment, step and channel: a new one only when the
-- verdict or its reason changed.
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

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

rules as (

    select * from {{ ref('decision_rules') }}

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

{% endif %}

fingerprint_rules as (

    select
        md5(cast({{ ordered_list(
            "rule || ' ' || verdict || ' ' || for_marketing || ' ' || for_transactional"
            ~ " || ' ' || coalesce(cast(window_hours as varchar), '')"
            ~ " || ' ' || coalesce(cast(limit_value as varchar), '')",
            'rule_order asc'
        ) }} as varchar)) as rules_hash
    from rules

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
        verdicts.verdict,
        verdicts.reason,
        verdicts.verdict_evidence_message_id as evidence_message_id,
        journeys.version || '-' || substr(journeys.definition_hash, 1, 8)
        || '-' || substr(fingerprint_rules.rules_hash, 1, 8) as rule_version
    from verdicts
    inner join journeys on verdicts.journey = journeys.journey
    cross join fingerprint_rules

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
        )
{% endif %}
