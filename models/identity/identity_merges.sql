-- One row per change of a profile that an earlier run had named; the newest run's only,
-- and not again where the log already ends with it.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    full_refresh=false,
) }}

with

run as (

    select * from {{ ref('stg_run') }}

),

identity_components as (

    select * from {{ ref('identity_components') }}

),

identifier_activity as (

    select * from {{ ref('identifier_activity') }}

),

find_changes as (

    select
        case
            when identity_components.component_seq = identity_components.identifier_seq
                then 'split'
            when identity_components.via_identifier_seq is null then 'rename'
            else 'merge'
        end as change,
        identity_components.former_component_seq as loser_seq,
        identity_components.component_seq as winner_seq,
        identity_components.via_identifier_seq,
        identity_components.via_linked_identifier_seq,
        identity_components.revision_seq
    from identity_components
    where
        identity_components.former_component_seq is not null
        and identity_components.revision_seq > (
            {% if is_incremental() %}
                select coalesce(max(logged.revision_seq), 0) from {{ this }} as logged
            {% else %}
                0
            {% endif %}
        )

),

name_profiles as (

    select
        find_changes.change,
        {{ uuid_of("losers.identifier_type || '␟' || losers.identifier") }}
            as loser_profile_id,
        {{ uuid_of("winners.identifier_type || '␟' || winners.identifier") }}
            as winner_profile_id,
        ends.identifier_type,
        ends.identifier,
        linked_ends.identifier_type as linked_identifier_type,
        linked_ends.identifier as linked_identifier,
        run.as_of as merged_at,
        find_changes.revision_seq
    from find_changes
    inner join run on run.is_newest
    inner join identifier_activity as losers
        on find_changes.loser_seq = losers.identifier_seq
    inner join identifier_activity as winners
        on find_changes.winner_seq = winners.identifier_seq
    left join identifier_activity as ends
        on find_changes.via_identifier_seq = ends.identifier_seq
    left join identifier_activity as linked_ends
        on find_changes.via_linked_identifier_seq = linked_ends.identifier_seq

),

drop_logged as (

    select name_profiles.*
    from name_profiles
    {%- if is_incremental() %}
    left join {{ this }} as logged
        on
            least(name_profiles.loser_profile_id, name_profiles.winner_profile_id)
            = least(logged.loser_profile_id, logged.winner_profile_id)
            and greatest(
                name_profiles.loser_profile_id, name_profiles.winner_profile_id
            ) = greatest(logged.loser_profile_id, logged.winner_profile_id)
    qualify
        row_number() over (
            partition by name_profiles.loser_profile_id, name_profiles.winner_profile_id
            order by logged.revision_seq desc nulls last
        ) = 1
        and (
            logged.change is null
            or logged.change <> name_profiles.change
            or logged.loser_profile_id <> name_profiles.loser_profile_id
        )
    {%- endif %}

)

select * from drop_logged
