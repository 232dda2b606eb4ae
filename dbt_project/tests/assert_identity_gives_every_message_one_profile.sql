-- Every message that names somebody belongs to exactly one profile of identity_map, and
-- profiles.profiles holds exactly the profiles of identity_map.
{{ config(meta={'dagster': {'ref': {'name': 'profile_events'}}}) }}

with

named_messages as (

    select distinct message_id from {{ ref('stg_identifiers') }}

),

mapped_profiles as (

    select distinct profile_id from {{ ref('identity_map') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

profiles as (

    select * from {{ ref('profiles') }}

)

select
    'message without profile' as problem,
    named_messages.message_id as id
from named_messages
left join profile_events on named_messages.message_id = profile_events.message_id
where profile_events.message_id is null
union all
select
    'event of an unknown profile' as problem,
    profile_events.message_id as id
from profile_events
left join mapped_profiles on profile_events.profile_id = mapped_profiles.profile_id
where mapped_profiles.profile_id is null
union all
select
    'profile missing or too many' as problem,
    coalesce(mapped_profiles.profile_id, profiles.profile_id) as id
from mapped_profiles
full outer join profiles on mapped_profiles.profile_id = profiles.profile_id
where mapped_profiles.profile_id is null or profiles.profile_id is null
