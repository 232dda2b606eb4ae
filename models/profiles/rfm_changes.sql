-- One row per change of a profile's RFM segment, as runs saw it.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    full_refresh=false,
) }}
{%- set scores = ['recency_score', 'frequency_score', 'monetary_score'] %}

with

run as (

    select * from {{ ref('stg_run') }}

),

rfm as (

    select * from {{ ref('rfm') }}

),

profile_identifiers as (

    select * from {{ ref('profile_identifiers') }}

),

identity_map as (

    select * from {{ ref('identity_map') }}

),

-- what was logged of a profile that has since merged or been renamed is found by the
-- identifier that it carried
find_last_logged as (

    {%- if is_incremental() %}
    select
        identity_map.profile_id,
        logged.changed_at,
        logged.rfm_segment,
        {%- for score in scores %}
        logged.{{ score }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ this }} as logged
    inner join identity_map
        on
            logged.identifier_type = identity_map.identifier_type
            and logged.identifier = identity_map.identifier
    qualify row_number() over (
        partition by identity_map.profile_id
        order by
            logged.changed_at desc,
            case
                when logged.profile_id = identity_map.profile_id then 0 else 1
            end asc,
            logged.profile_id asc
    ) = 1
    {%- else %}
    select
        profile_id,
        cast(null as timestamp) as changed_at,
        cast(null as varchar) as rfm_segment,
        {%- for score in scores %}
        {{ score }}{{ ',' if not loop.last }}
        {%- endfor %}
    from rfm
    where false
    {%- endif %}

),

find_changes as (

    select
        profile_identifiers.profile_id,
        profile_identifiers.identifier_type,
        profile_identifiers.identifier,
        run.as_of as changed_at,
        rfm.rfm_segment,
        {%- for score in scores %}
        rfm.{{ score }},
        {%- endfor %}
        last_logged.rfm_segment as previous_rfm_segment,
        {%- for score in scores %}
        last_logged.{{ score }} as previous_{{ score }}{{ ',' if not loop.last }}
        {%- endfor %}
    from profile_identifiers
    cross join run
    left join rfm on profile_identifiers.profile_id = rfm.profile_id
    left join find_last_logged as last_logged
        on profile_identifiers.profile_id = last_logged.profile_id
    where
        run.is_newest
        and rfm.rfm_segment is distinct from last_logged.rfm_segment
        and coalesce(last_logged.changed_at < run.as_of, true)

)

select * from find_changes
