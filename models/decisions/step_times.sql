-- One row per active enrollment and step still ahead: when it is due, and whether all
-- before it were sent, cannot be sent or have waited in vain.
with recursive

run as (

    select * from {{ ref('stg_run') }}

),

open_steps as (

    select * from {{ ref('open_steps') }}

),

local_zones as (

    select * from {{ ref('local_zones') }}
    where is_likeliest

),

describe_steps as (

    select
        enrollment_id,
        profile_id,
        step,
        step_position,
        waits_since,
        awaited_at,
        wait_for is not null as has_wait,
        is_sent_on_timeout,
        coalesce(wait_timeout_seconds, 0) as timeout_seconds,
        max(case when is_tried or is_closed then 0 else 1 end) = 1 as can_send,
        case when is_delayed_from_entry then 0 else delay_seconds end as delay_seconds,
        case
            when is_delayed_from_entry
                then {{ add_seconds('entered_at', 'delay_seconds') }}
            else waits_since
        end as earliest_at,
        until_weekdays,
        until_minute
    from open_steps
    where is_ahead
    group by all

),

number_steps as (

    select
        describe_steps.*,
        coalesce(local_zones.time_zone, run.time_zone) as time_zone,
        row_number() over (
            partition by describe_steps.enrollment_id
            order by describe_steps.step_position asc
        ) as step_number
    from describe_steps
    cross join run
    left join local_zones on describe_steps.profile_id = local_zones.profile_id

),

-- a step is due so long after the one before it, and waits for its weekday and hour
find_due_times as (

    select
        *,
        {{ next_at(
            'greatest(' ~ add_seconds('waits_since', 'delay_seconds')
                ~ ', earliest_at)',
            'time_zone',
            'until_weekdays',
            'until_minute'
        ) }} as due_at
    from number_steps
    where step_number = 1

    union all

    select
        steps.*,
        {{ next_at(
            'greatest(' ~ add_seconds(
                'earlier.due_at',
                'case when earlier.can_send then earlier.timeout_seconds else 0 end'
                    ~ ' + steps.delay_seconds'
            ) ~ ', steps.earliest_at)',
            'steps.time_zone',
            'steps.until_weekdays',
            'steps.until_minute'
        ) }} as due_at
    from find_due_times as earlier
    inner join number_steps as steps
        on
            earlier.enrollment_id = steps.enrollment_id
            and earlier.step_number + 1 = steps.step_number

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
