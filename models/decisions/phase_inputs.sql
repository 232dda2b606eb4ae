-- One row per profile and signal in order, with all that the state machine needs to
-- know at that moment besides the phase itself.
with

evidence as (

    select * from {{ ref('phase_evidence') }}

),

ticks as (

    select * from {{ ref('inactivity_timers') }}

),

signals as (

    select * from {{ ref('phase_signals') }}

),

line_up as (

    select
        profile_id,
        signal,
        message_id,
        occurred_at
    from evidence

    union all

    select
        profile_id,
        signal,
        message_id,
        occurred_at
    from ticks

),

number_signals as (

    select
        line_up.*,
        signals.reason,
        row_number() over (
            partition by line_up.profile_id
            order by
                line_up.occurred_at asc,
                signals.signal_order asc,
                line_up.message_id asc
        ) as signal_number
    from line_up
    inner join signals on line_up.signal = signals.signal

),

look_back as (

    select
        *,
        sum(case signal when 'ordered' then 1 else 0 end) over so_far as order_count,
        sum(case signal when 'promoted' then 1 else 0 end) over so_far
            as promotion_count,
        sum(
            case signal
                when 'misstep_opened' then 1 when 'misstep_resolved' then -1
                else 0
            end
        ) over so_far as open_misstep_count,
        sum(case when signal in ('ordered', 'silent') then 1 else 0 end) over so_far
            as fresh_start_count
    from number_signals
    window so_far as (
        partition by profile_id
        order by signal_number asc
        rows between unbounded preceding and current row
    )

),

count_considerations as (

    select
        *,
        sum(case signal when 'considered' then 1 else 0 end) over (
            partition by profile_id, fresh_start_count
            order by signal_number asc
            rows between unbounded preceding and current row
        ) as consideration_count
    from look_back

),

judge_moments as (

    select
        profile_id,
        signal_number,
        signal,
        message_id,
        occurred_at,
        reason,
        open_misstep_count > 0 as has_open_misstep,
        consideration_count >= {{ phase_rule('repeated_considerations') }}
            as is_considered_again,
        order_count >= {{ phase_rule('loyal_orders') }} and promotion_count > 0
            as is_loyal
    from count_considerations

)

select * from judge_moments
