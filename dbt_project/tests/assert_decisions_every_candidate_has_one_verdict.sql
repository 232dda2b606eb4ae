-- Every candidate has exactly one decision, about the very same step and channel.
{{ config(meta={'dagster': {'ref': {'name': 'candidates'}}}) }}

select
    candidates.candidate_id,
    count(decisions.decision_id) as decision_count
from {{ ref('candidates') }} as candidates
left join {{ ref('decisions') }} as decisions
    on
        candidates.decision_id = decisions.decision_id
        and candidates.enrollment_id = decisions.enrollment_id
        and candidates.step = decisions.step
        and candidates.channel = decisions.channel
group by candidates.candidate_id
having count(decisions.decision_id) <> 1
