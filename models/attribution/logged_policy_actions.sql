-- One row per send of which chance chose the channel, and channel that it might have
-- chosen: with the answer, once there was time for one.
with

run as (

    select * from {{ ref('stg_run') }}

),

rules as (

    select * from {{ ref('reach_rules') }}

),

send_choices as (

    select * from {{ ref('send_choices') }}

),

sends as (

    select * from {{ ref('stg_sends') }}
    where state = 'sent'

),

answers as (

    select distinct send_id
    from {{ ref('touchpoints') }}
    where interaction in ('clicked', 'session') and send_id is not null

),

keep_draws as (

    select
        send_choices.send_id,
        send_choices.channel,
        send_choices.choice_probability,
        coalesce(send_choices.channel_propensity, 0) as channel_propensity,
        send_choices.is_chosen,
        answers.send_id is not null as has_answered
    from send_choices
    cross join run
    cross join rules
    inner join sends on send_choices.send_id = sends.send_id
    left join answers on send_choices.send_id = answers.send_id
    where
        send_choices.choice_probability > 0
        and send_choices.choice_probability < 1
        and {{ add_seconds('send_choices.as_of', '3600 * rules.credited_hours') }}
        <= run.as_of

)

select * from keep_draws
