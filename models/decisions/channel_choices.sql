-- One row per due step and channel that no rule closes for good: with what probability
-- the step goes out there, and whether it does. A small share of marketing steps tries
-- another channel than the best, so that what is learned can be held against it.
with

due_steps as (

    select * from {{ ref('due_steps') }}

),

rule_hits as (

    select * from {{ ref('rule_hits') }}

),

channel_scores as (

    select * from {{ source('ml', 'channel_scores') }}

),

rank_channels as (

    select
        due_steps.*,
        channel_scores.channel_propensity,
        row_number() over (
            partition by due_steps.enrollment_id, due_steps.step
            order by
                case
                    when due_steps.uses_next_best_channel
                        then coalesce(channel_scores.channel_propensity, 0)
                    else 0
                end desc,
                due_steps.channel_position asc
        ) as channel_rank,
        count(*) over (
            partition by due_steps.enrollment_id, due_steps.step
        ) - 1 as other_count
    from due_steps
    left join channel_scores
        on
            due_steps.profile_id = channel_scores.profile_id
            and due_steps.channel = channel_scores.channel
    where due_steps.send_id not in (
        select rule_hits.send_id from rule_hits
        where rule_hits.verdict = 'suppressed'
    )

),

draw_numbers as (

    select
        *,
        case
            when
                uses_next_best_channel
                and message_class = 'marketing'
                and other_count > 0
                then coalesce({{ decision_rule('another_channel', 'limit_value') }}, 0)
            else 0
        end as exploration_rate,
        {{ unit_interval("'another_channel␟' || enrollment_id || '␟' || step") }}
            as random_draw
    from rank_channels

),

choose as (

    select
        send_id,
        candidate_id,
        enrollment_id,
        step,
        channel,
        channel_propensity,
        case
            when channel_rank = 1 then 1 - exploration_rate
            else coalesce(exploration_rate / nullif(other_count, 0), 0)
        end as choice_probability,
        channel_rank = case
            when random_draw < exploration_rate
                then 2 + floor(random_draw / exploration_rate * other_count)
            else 1
        end as is_chosen
    from draw_numbers

)

select * from choose
