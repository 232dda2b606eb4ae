-- One row per due step, channel and override of a human that stands against it.
with

due_steps as (

    select * from {{ ref('due_steps') }}

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
        due_steps.candidate_id,
        'override_never_contact' as rule,
        overrides.reason_detail
    from due_steps
    inner join overrides on due_steps.profile_id = overrides.profile_id
    where
        overrides.override = 'never_contact'
        and overrides.message_class in ('all', due_steps.message_class)

),

-- where the step can go out on the forced channel, its other channels stand back
stand_back as (

    select
        due_steps.candidate_id,
        'override_channel' as rule,
        overrides.reason_detail
    from due_steps
    inner join overrides on due_steps.profile_id = overrides.profile_id
    inner join open_steps as forced_steps
        on
            due_steps.enrollment_id = forced_steps.enrollment_id
            and due_steps.step = forced_steps.step
            and overrides.channel = forced_steps.channel
    where
        overrides.override = 'force_channel'
        and due_steps.channel <> overrides.channel
        and not forced_steps.is_tried
        and not forced_steps.is_closed

),

list_hits as (

    select * from keep_silent
    union all
    select * from stand_back

)

select * from list_hits
