-- One row per active enrollment and step still ahead: when it is due, and whether all
-- before it were sent, cannot be sent or have waited in vain.
with

run as (

    select * from {{ ref('stg_run') }}

),

open_steps as (

    select * from {{ ref('open_steps') }}

),

describe_steps as (

    select
        enrollment_id,
        step,
        step_position,
        waits_since,
        awaited_at,
        wait_for is not null as has_wait,
        is_sent_on_timeout,
        coalesce(wait_timeout_seconds, 0) as timeout_seconds,
        max(case when is_tried or is_closed then 0 else 1 end) = 1 as can_send,
        case when is_delayed_from_entry then 0 else delay_seconds end as delay_seconds,
        -- not before this long after waits_since
        case
            when is_delayed_from_entry
                then delay_seconds - {{ seconds_between('entered_at', 'waits_since') }}
            else 0
        end as earliest_seconds
    from open_steps
    where is_ahead
    group by all

),

add_up_delays as (

    select
        *,
        sum(
            delay_seconds + case when can_send then timeout_seconds else 0 end
        ) over (
            partition by enrollment_id order by step_position asc
        ) - case when can_send then timeout_seconds else 0 end as chained_seconds
    from describe_steps

),

find_due_times as (

    -- due(k) = max(earliest(k), due(k-1) + delay(k)), written without recursion
    select
        *,
        {{ add_seconds('waits_since', "
            chained_seconds + greatest(
                0,
                max(earliest_seconds - chained_seconds) over (
                    partition by enrollment_id order by step_position asc
                )
            )
        ") }} as due_at
    from add_up_delays

),

follow_waits as (

    select
        find_due_times.*,
        not has_wait or coalesce(
            awaited_at <= {{ add_seconds('due_at', 'timeout_seconds') }}, false
        ) or (
            coalesce(is_sent_on_timeout, false)
            and {{ add_seconds('due_at', 'timeout_seconds') }} <= run.as_of
        ) as is_awaited,
        {{ add_seconds('due_at', 'timeout_seconds') }} <= run.as_of as is_timed_out,
        due_at <= run.as_of as is_due
    from find_due_times
    cross join run

),

follow_order as (

    select
        enrollment_id,
        step,
        step_position,
        due_at,
        is_due and (is_awaited or not can_send) as is_ready,
        coalesce(sum(
            case when can_send and (is_awaited or not is_timed_out) then 1 else 0 end
        ) over (
            partition by enrollment_id
            order by step_position asc
            rows between unbounded preceding and 1 preceding
        ), 0) = 0 as is_next
    from follow_waits

)

select * from follow_order
