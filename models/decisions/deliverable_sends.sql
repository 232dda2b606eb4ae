-- One row per send that waits to be delivered: whether it may go out now, by the rules
-- that let it be decided.
with

verdicts as (

    select * from {{ ref('verdicts') }}
    where is_waiting

),

-- files may land between two runs at the same as_of: who was written to is busy
busy_profiles as (

    select distinct decisions.profile_id
    from {{ ref('decisions') }} as decisions
    inner join {{ ref('stg_run') }} as run on decisions.as_of = run.as_of
    where decisions.verdict = 'send'

),

judge_waiting as (

    select
        verdicts.send_id,
        verdicts.profile_id,
        case
            when verdicts.verdict = 'send' and busy_profiles.profile_id is not null
                then 'held'
            else verdicts.verdict
        end as verdict,
        case
            when verdicts.verdict = 'send' and busy_profiles.profile_id is not null
                then {{ stated_rule('arbitration') }}
            else verdicts.reason
        end as reason
    from verdicts
    left join busy_profiles on verdicts.profile_id = busy_profiles.profile_id

),

judge_deliverable as (

    select
        *,
        verdict = 'send' as is_deliverable
    from judge_waiting

)

select * from judge_deliverable
