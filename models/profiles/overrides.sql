-- One row per person and override in force at as_of. Where two audiences disagree, the
-- one of the smaller priority number has its say; no contact at all goes before both.
-- Of an audience that is set aside anybody may be meant, until its mistake is mended.
with

run as (

    select * from {{ ref('stg_run') }}

),

stated_overrides as (

    select * from {{ ref('stated_overrides') }}

),

set_aside as (

    select audience from {{ ref('stg_audiences') }}
    where mistake is not null

),

profiles as (

    select * from {{ ref('profiles') }}
    where not is_hub

),

list_members as (

    select
        audience,
        profile_id,
        false as is_set_aside
    from {{ ref('audience_members') }}

    union all

    select
        set_aside.audience,
        profiles.profile_id,
        true as is_set_aside
    from set_aside
    cross join profiles

),

keep_in_force as (

    select stated_overrides.*
    from stated_overrides
    cross join run
    where
        (
            stated_overrides.valid_from is null
            or stated_overrides.valid_from <= run.as_of
        )
        and (
            stated_overrides.valid_until is null
            or run.as_of < {{ add_days(
                'cast(stated_overrides.valid_until as timestamp)', '1'
            ) }}
        )

),

choose_overrides as (

    select
        list_members.profile_id,
        keep_in_force.override,
        keep_in_force.priority,
        keep_in_force.audience,
        list_members.is_set_aside,
        keep_in_force.channel,
        keep_in_force.message_class,
        keep_in_force.reason,
        keep_in_force.decided_by,
        keep_in_force.valid_from,
        keep_in_force.valid_until
    from list_members
    inner join keep_in_force on list_members.audience = keep_in_force.audience
    qualify row_number() over (
        partition by list_members.profile_id, keep_in_force.override
        order by
            case when keep_in_force.message_class = 'all' then 0 else 1 end asc,
            keep_in_force.priority asc
    ) = 1

)

select * from choose_overrides
