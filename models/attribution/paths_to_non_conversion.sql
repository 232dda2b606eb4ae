-- One row per touch that no conversion claims, in the path that led nowhere.
with

touchpoints as (

    select * from {{ ref('touchpoints') }}

),

paths_to_conversion as (

    select * from {{ ref('paths_to_conversion') }}

),

find_unclaimed_touches as (

    select * from touchpoints
    where not exists (
        select 1 from paths_to_conversion
        where paths_to_conversion.touchpoint_id = touchpoints.touchpoint_id
    )

),

-- a path ends where the look-back of all its touches has passed
begin_paths as (

    select
        *,
        case
            when touched_at <= max(expires_at) over (
                partition by profile_id
                order by touched_at asc nulls last, touchpoint_id asc nulls last
                rows between unbounded preceding and 1 preceding
            ) then 0
            else 1
        end as is_path_start
    from find_unclaimed_touches

),

number_paths as (

    select
        *,
        sum(is_path_start) over (
            partition by profile_id
            order by touched_at asc nulls last, touchpoint_id asc nulls last
            rows between unbounded preceding and current row
        ) as path_number
    from begin_paths

),

number_touches as (

    select
        first_value(touchpoint_id) over (
            partition by profile_id, path_number
            order by touched_at asc nulls last, touchpoint_id asc nulls last
        ) as path_id,
        profile_id,
        touchpoint_id,
        channel,
        touched_at,
        row_number() over (
            partition by profile_id, path_number
            order by touched_at asc nulls last, touchpoint_id asc nulls last
        ) as position,
        count(*) over (partition by profile_id, path_number) as touch_count
    from number_paths

)

select * from number_touches
