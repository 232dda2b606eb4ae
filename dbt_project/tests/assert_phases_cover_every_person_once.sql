-- Every profile that is no hub is in exactly one phase, and no hub is in any.
{{ config(meta={'dagster': {'ref': {'name': 'phases'}}}) }}

select
    profiles.profile_id,
    count(phases.phase) as phase_count
from {{ ref('profiles') }} as profiles
left join {{ ref('phases') }} as phases on profiles.profile_id = phases.profile_id
group by profiles.profile_id, profiles.is_hub
having count(phases.phase) <> case when profiles.is_hub then 0 else 1 end
