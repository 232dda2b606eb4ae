-- One row per send and channel on which its step could have gone out: what spoke for
-- the channel then, and how likely it was chosen.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    full_refresh=false,
) }}

with

send_list as (

    select * from {{ ref('send_list') }}

),

channel_choices as (

    select * from {{ ref('channel_choices') }}

),

chosen as (

    select * from {{ ref('channel_choices') }}
    where is_chosen

),

list_choices as (

    select
        send_list.send_id,
        send_list.as_of,
        channel_choices.channel,
        channel_choices.channel_propensity,
        channel_choices.choice_probability,
        channel_choices.is_chosen
    from send_list
    -- the choice that sent it, none of a later run
    inner join chosen on send_list.decision_id = chosen.candidate_id
    inner join channel_choices
        on
            chosen.enrollment_id = channel_choices.enrollment_id
            and chosen.step = channel_choices.step

)

select * from list_choices
{% if is_incremental() %}
    where send_id not in (select choices.send_id from {{ this }} as choices)
{% endif %}
