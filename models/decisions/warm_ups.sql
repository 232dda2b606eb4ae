-- One row per channel that is being warmed up: how many messages may still go out on
-- it now. A channel's first day begins with its first send.
with

run as (

    select * from {{ ref('stg_run') }}

),

warm_up_limits as (

    select * from {{ ref('warm_up_limits') }}

),

sends as (

    select
        channel,
        coalesce(sent_at, waits_since) as went_at
    from {{ ref('stg_sends') }}
    where state in ('inflight', 'sent', 'unknown')

),

count_sends as (

    select
        limited.channel,
        run.as_of,
        1 + coalesce({{ days_between('min(sends.went_at)', 'run.as_of') }}, 0) as day,
        count(case
            when sends.went_at > {{ add_seconds('run.as_of', '-86400') }} then 1
        end) as sent_count
    from (select distinct warm_up_limits.channel from warm_up_limits) as limited
    cross join run
    left join sends on limited.channel = sends.channel
    group by limited.channel, run.as_of

),

-- a day without a row has the limit of the one before it
find_limits as (

    select
        count_sends.channel,
        count_sends.day,
        count_sends.sent_count,
        warm_up_limits.limit_value
    from count_sends
    inner join warm_up_limits
        on
            count_sends.channel = warm_up_limits.channel
            and count_sends.day >= warm_up_limits.day
    qualify row_number() over (
        partition by count_sends.channel order by warm_up_limits.day desc
    ) = 1

),

state_rests as (

    select
        channel,
        day,
        limit_value,
        sent_count,
        greatest(limit_value - sent_count, 0) as rest_count
    from find_limits
    where limit_value is not null

)

select * from state_rests
