-- One row per sequence of channels: how often it ended in a conversion, and how often
-- it led nowhere.
{{ config(materialized='view') }}

with

paths as (

    select * from {{ ref('paths') }}

),

count_paths as (

    select
        channel_sequence,
        count(case when path_kind = 'path_to_conversion' then 1 end)
            as conversion_count,
        count(case when path_kind = 'path_to_non_conversion' then 1 end)
            as non_conversion_count
    from paths
    group by channel_sequence

)

select * from count_paths
