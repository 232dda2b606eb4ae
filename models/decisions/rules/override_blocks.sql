-- One row per possible send and override of a human that stands against it.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

open_steps as (

    select * from {{ ref('open_steps') }}

),

overrides as (

    select
        *,
        audience || ': ' || reason as reason_detail
    from {{ ref('overrides') }}

),

keep_silent as (

    select
        possible_sends.send_id,
        case
            when overrides.is_set_aside then {{ stated_rule('audience_set_aside') }}
            else {{ stated_rule('override_never_contact') }}
        end as rule,
        overrides.reason_detail
    from possible_sends
    inner join overrides on possible_sends.profile_id = overrides.profile_id
    where
        overrides.override = 'never_contact'
        and overrides.message_class in ('all', possible_sends.message_class)

),

-- where the step can go out on the forced channel, its other channels stand back, and
-- all of them while nobody can say for whom it is forced
stand_back as (

    select
        possible_sends.send_id,
        case
            when overrides.is_set_aside then {{ stated_rule('audience_set_aside') }}
            else {{ stated_rule('override_channel') }}
        end as rule,
        overrides.reason_detail
    from possible_sends
    inner join overrides on possible_sends.profile_id = overrides.profile_id
    inner join open_steps as forced_steps
        on
            possible_sends.enrollment_id = forced_steps.enrollment_id
            and possible_sends.step = forced_steps.step
            and overrides.channel = forced_steps.channel
    where
        overrides.override = 'force_channel'
        and (
            possible_sends.channel <> overrides.channel
            or overrides.is_set_aside
        )
        and not forced_steps.is_tried
        and not forced_steps.is_closed

),

list_blocks as (

    select * from keep_silent
    union all
    select * from stand_back

)

select * from list_blocks
