-- One row per possible send and rule by which nobody is ever written to: no person, one
-- who was erased, or a control group.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

profiles as (

    select * from {{ ref('profiles') }}

),

erased_profiles as (

    select * from {{ source('identity', 'erased_profiles') }}

),

find_hubs as (

    select
        possible_sends.send_id,
        {{ stated_rule('hub_profile') }} as rule
    from possible_sends
    inner join profiles on possible_sends.profile_id = profiles.profile_id
    where profiles.is_hub

),

find_erased as (

    select
        possible_sends.send_id,
        {{ stated_rule('erased') }} as rule
    from possible_sends
    inner join erased_profiles
        on possible_sends.profile_id = erased_profiles.profile_id

),

find_controls as (

    select
        send_id,
        {{ stated_rule('global_control') }} as rule
    from possible_sends
    where assignment = 'global_control'

    union all

    select
        send_id,
        {{ stated_rule('holdout') }} as rule
    from possible_sends
    where assignment = 'holdout'

),

unite_blocks as (

    select * from find_erased
    union all
    select * from find_hubs
    union all
    select * from find_controls

)

select * from unite_blocks
