-- One row per channel: the letter that stands for it in the sequence of a path.
{{ config(materialized='view') }}

with

touchpoints as (

    select * from {{ ref('touchpoints') }}

),

list_channels as (

    select distinct channel from touchpoints

),

number_channels as (

    select
        channel,
        row_number() over (order by channel asc nulls last) as channel_number
    from list_channels

),

give_letters as (

    select
        channel,
        {{ letter('channel_number') }} as letter
    from number_channels

)

select * from give_letters
