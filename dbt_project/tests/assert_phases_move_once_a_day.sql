-- A person moves at most one phase a day, except into 5 and 6.
{{ config(meta={'dagster': {'ref': {'name': 'phase_changes'}}}) }}

select
    profile_id,
    cast(changed_at as date) as changed_on,
    count(*) as move_count
from {{ ref('phase_changes') }}
where previous_phase is not null and phase not in (5, 6)
group by profile_id, cast(changed_at as date)
having count(*) > 1
