-- One row per enrollment, with the facts that were fixed when it began.
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

entry_matches as (

    select * from {{ ref('entry_matches') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

identity_map as (

    select * from {{ ref('identity_map') }}

),

sends as (

    select * from {{ ref('stg_sends') }}

),

-- a journey is the same by whatever name it once went
journey_names as (

    select * from {{ ref('journey_names') }}

),

-- of enrollments that were sent to before the warehouse was put back from an earlier
-- time: none in any other
lost_entries as (

    select
        sends.enrollment_id,
        coalesce(journey_names.current_journey, sends.journey) as journey,
        identity_map.profile_id,
        max(sends.as_of) as last_entered_at
    from sends
    left join journey_names
        on
            sends.journey = journey_names.journey
            and {{ named_then('journey_names', 'sends.as_of') }}
    inner join identity_map
        on
            sends.identifier_type = identity_map.identifier_type
            and sends.identifier = identity_map.identifier
    {% if is_incremental() %}
        where
            sends.enrollment_id not in (
                select entries.enrollment_id from {{ this }} as entries
            )
    {% endif %}
    group by 1, 2, 3

),

{% if is_incremental() %}

    earlier_entries as (

        select
            identity_map.profile_id,
            coalesce(journey_names.current_journey, entries.journey) as journey,
            max(entries.entered_at) as last_entered_at
        from {{ this }} as entries
        cross join run
        left join journey_names
            on
                entries.journey = journey_names.journey
                and {{ named_then('journey_names', 'entries.entered_at') }}
        inner join identity_map
            on
                entries.identifier_type = identity_map.identifier_type
                and entries.identifier = identity_map.identifier
        where entries.entered_at < run.as_of
        group by 1, 2

    ),

{% endif %}

assign_groups as (

    select
        {{ surrogate_key([
            'entry_matches.journey', 'entry_matches.entry_key'
        ]) }} as enrollment_id,
        entry_matches.journey,
        entry_matches.journey_version,
        entry_matches.definition_hash,
        entry_matches.profile_id as entry_profile_id,
        entry_matches.identifier_type,
        entry_matches.identifier,
        run.as_of as entered_at,
        entry_matches.trigger_value as entry_reason,
        entry_matches.evidence_message_id,
        entry_matches.triggered_at as evidence_at,
        case
            when
                entry_matches.message_class = 'marketing'
                and {{ unit_interval(
                    "'global_control␟' || entry_matches.profile_id"
                ) }} < {{ decision_rule('global_control', 'limit_value') }}
                then 'global_control'
            when
                {{ unit_interval(
                    "entry_matches.journey || '␟' || entry_matches.profile_id"
                ) }} < entry_matches.holdout_rate
                then 'holdout'
            else 'treated'
        end as assignment,
        entry_matches.product_id,
        entry_matches.product_name,
        entry_matches.category,
        cast(entry_matches.product_price as decimal(18, 2)) as product_price,
        cast(entry_matches.cart_value_amount as decimal(18, 2)) as cart_value_amount,
        cast(entry_matches.holdout_rate as double) as holdout_rate,
        journeys.entry_cap,
        journeys.entry_cap_seconds,
        case
            when entry_matches.message_class = 'marketing'
                then {{ decision_rule('global_control', 'limit_value') }}
            else 0
        end as control_rate
    from entry_matches
    cross join run
    inner join journeys on entry_matches.journey = journeys.journey
    where
        run.is_newest
        -- the same enrollment goes on where it was
        and not exists (
            select 1 from lost_entries
            where
                lost_entries.profile_id = entry_matches.profile_id
                and lost_entries.journey = entry_matches.journey
                and lost_entries.enrollment_id <> {{ surrogate_key([
                    'entry_matches.journey', 'entry_matches.entry_key'
                ]) }}
                and (
                    entry_matches.re_eligible_after_seconds is null
                    or {{ add_seconds(
                        'lost_entries.last_entered_at',
                        'entry_matches.re_eligible_after_seconds'
                    ) }} > run.as_of
                )
        )
        {% if is_incremental() %}
            and not exists (
                select 1 from earlier_entries
                where
                    earlier_entries.profile_id = entry_matches.profile_id
                    and earlier_entries.journey = entry_matches.journey
                    and (
                        entry_matches.re_eligible_after_seconds is null
                        or {{ add_seconds(
                        'earlier_entries.last_entered_at',
                        'entry_matches.re_eligible_after_seconds'
                    ) }} > run.as_of
                    )
            )
        {% endif %}

),

keep_new as (

    select * from assign_groups
    {% if is_incremental() %}
        where
            enrollment_id not in (
                select entries.enrollment_id from {{ this }} as entries
            )
    {% endif %}

),

-- who began in the time of which a journey's cap speaks
count_earlier as (

    {% if is_incremental() %}
        select
            caps.journey,
            count(*) as entry_count
        from (
            select distinct
                journey,
                entry_cap_seconds,
                entered_at
            from keep_new
        ) as caps
        inner join {{ this }} as entries
            on
                caps.journey = entries.journey
                and {{ add_seconds('entries.entered_at', 'caps.entry_cap_seconds') }}
                > caps.entered_at
        group by caps.journey
    {% else %}
        select
            cast(null as varchar) as journey,
            0 as entry_count
        where false
    {% endif %}

),

-- the others may begin in a later run, while their evidence holds
keep_within_cap as (

    select
        keep_new.*
        exclude (holdout_rate, control_rate, entry_cap, entry_cap_seconds),
        case keep_new.assignment
            when 'global_control' then keep_new.control_rate
            when 'holdout' then (1 - keep_new.control_rate) * keep_new.holdout_rate
            else (1 - keep_new.control_rate) * (1 - keep_new.holdout_rate)
        end as assignment_probability
    from keep_new
    left join count_earlier on keep_new.journey = count_earlier.journey
    qualify
        keep_new.entry_cap is null
        or coalesce(count_earlier.entry_count, 0) + row_number() over (
            partition by keep_new.journey
            order by keep_new.evidence_at asc, keep_new.enrollment_id asc
        ) <= keep_new.entry_cap

)

select * from keep_within_cap
