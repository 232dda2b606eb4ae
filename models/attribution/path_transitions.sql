-- One row per step from one state of a path to the next.
with

paths_to_conversion as (

    select * from {{ ref('paths_to_conversion') }}

),

paths_to_non_conversion as (

    select * from {{ ref('paths_to_non_conversion') }}

),

unite_paths as (

    select
        '(conversion)' as ending,
        path_id,
        channel,
        position,
        touch_count
    from paths_to_conversion
    union all
    select
        '(null)' as ending,
        path_id,
        channel,
        position,
        touch_count
    from paths_to_non_conversion

),

follow_paths as (

    select
        case when position = 1 then '(start)' end as opening,
        channel,
        coalesce(
            lead(channel) over (
                partition by ending, path_id order by position asc nulls last
            ),
            ending
        ) as next_state
    from unite_paths

),

list_steps as (

    select
        opening as from_state,
        channel as to_state
    from follow_paths
    where opening is not null
    union all
    select
        channel as from_state,
        next_state as to_state
    from follow_paths

),

count_steps as (

    select
        from_state,
        to_state,
        count(*) as transition_count
    from list_steps
    group by from_state, to_state

)

select * from count_steps
