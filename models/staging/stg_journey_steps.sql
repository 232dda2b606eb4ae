-- One row per journey, step and channel that the step may use.
with

journey_steps as (

    select * from {{ source('raw', 'journey_steps') }}

),

name_fields as (

    select
        journey,
        step,
        step_position,
        arm_share,
        channel,
        channel_position,
        uses_next_best_channel,
        is_escalation,
        delay_seconds,
        is_delayed_from_entry,
        until_weekdays,
        until_minute,
        wait_for,
        wait_timeout_seconds,
        is_sent_on_timeout,
        send_time_seconds,
        content_ids,
        incentive_code,
        incentive_percent,
        incentive_valid_seconds,
        incentive_maximum_propensity
    from journey_steps

)

select * from name_fields
