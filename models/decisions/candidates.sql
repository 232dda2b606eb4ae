-- One row per enrollment, due step and channel of this as_of, with the decision that
-- holds for it, made now or earlier.
with

verdicts as (

    select * from {{ ref('verdicts') }}
    where not is_waiting

),

decisions as (

    select * from {{ ref('decisions') }}

),

latest_decisions as (

    select * from decisions
    qualify row_number() over (
        partition by enrollment_id, step, channel
        order by as_of desc, decision_id asc
    ) = 1

),

name_fields as (

    select
        verdicts.candidate_id,
        verdicts.as_of,
        verdicts.enrollment_id,
        verdicts.profile_id,
        verdicts.journey,
        verdicts.step,
        verdicts.channel,
        latest_decisions.decision_id,
        verdicts.due_at,
        verdicts.message_class,
        verdicts.priority
    from verdicts
    left join latest_decisions
        on
            verdicts.enrollment_id = latest_decisions.enrollment_id
            and verdicts.step = latest_decisions.step
            and verdicts.channel = latest_decisions.channel

)

select * from name_fields
