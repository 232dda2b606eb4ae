-- One row per path: the touches before one conversion, or those that led nowhere.
with

paths_to_conversion as (

    select * from {{ ref('paths_to_conversion') }}

),

paths_to_non_conversion as (

    select * from {{ ref('paths_to_non_conversion') }}

),

channel_letters as (

    select * from {{ ref('channel_letters') }}

),

unite_touches as (

    select
        'path_to_conversion' as path_kind,
        path_id,
        profile_id,
        channel,
        position,
        touched_at
    from paths_to_conversion
    union all
    select
        'path_to_non_conversion' as path_kind,
        path_id,
        profile_id,
        channel,
        position,
        touched_at
    from paths_to_non_conversion

),

mark_channel_changes as (

    select
        unite_touches.*,
        channel_letters.letter,
        coalesce(
            unite_touches.channel <> lag(unite_touches.channel) over (
                partition by path_kind, path_id order by position asc nulls last
            ),
            true
        ) as is_change
    from unite_touches
    inner join channel_letters on unite_touches.channel = channel_letters.channel

),

write_paths as (

    select
        path_id,
        path_kind,
        min(profile_id) as profile_id,
        {{ joined_list(ordered_list('letter', 'position'), '') }} as channel_sequence,
        {{ joined_list(
            ordered_list('case when is_change then channel end', 'position'), ' > '
        ) }} as path,
        count(*) as touch_count,
        min(touched_at) as first_touched_at,
        max(touched_at) as last_touched_at
    from mark_channel_changes
    group by path_id, path_kind

)

select * from write_paths
