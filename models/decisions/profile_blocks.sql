-- One row per profile and rule that keeps messages from it now, whatever the channel.
-- Of those with a step due or a send that waits to be delivered.
with

run as (

    select * from {{ ref('stg_run') }}

),

due_profiles as (

    select profile_id from {{ ref('due_steps') }}
    union
    select enrollments.profile_id
    from {{ ref('stg_sends') }} as sends
    inner join {{ ref('enrollments') }} as enrollments
        on sends.enrollment_id = enrollments.enrollment_id
    where sends.state = 'pending'

),

rules as (

    select * from {{ ref('decision_rules') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

contacts as (

    select * from {{ ref('recent_contacts') }}

),

find_moments as (

    select
        profile_id,
        'restoration' as rule,
        evidence_message_id,
        cast(null as timestamp) as occurred_at
    from {{ ref('missteps') }}
    where is_open

    union all

    select
        profile_events.profile_id,
        'high_stakes' as rule,
        high_stakes.message_id as evidence_message_id,
        high_stakes.occurred_at
    from {{ ref('stg_high_stakes_events') }} as high_stakes
    inner join profile_events on high_stakes.message_id = profile_events.message_id

    union all

    select
        profile_events.profile_id,
        'post_purchase' as rule,
        orders.message_id as evidence_message_id,
        orders.ordered_at as occurred_at
    from {{ ref('stg_orders') }} as orders
    inner join profile_events on orders.message_id = profile_events.message_id

    union all

    select
        profile_id,
        'hub_profile' as rule,
        cast(null as varchar) as evidence_message_id,
        cast(null as timestamp) as occurred_at
    from {{ ref('profiles') }}
    where is_hub

    union all

    select
        profile_id,
        'frequency_cap' as rule,
        max(contact_id) as evidence_message_id,
        cast(null as timestamp) as occurred_at
    from contacts
    group by profile_id
    having count(*) >= {{ decision_rule('frequency_cap', 'limit_value') }}

),

newest_moments as (

    select
        find_moments.profile_id,
        find_moments.rule,
        find_moments.evidence_message_id
    from find_moments
    inner join due_profiles on find_moments.profile_id = due_profiles.profile_id
    inner join rules on find_moments.rule = rules.rule
    cross join run
    where
        find_moments.occurred_at is null
        or {{ add_seconds('find_moments.occurred_at', '3600 * rules.window_hours') }}
        > run.as_of
    qualify row_number() over (
        partition by find_moments.profile_id, find_moments.rule
        order by
            find_moments.occurred_at desc nulls last,
            find_moments.evidence_message_id desc nulls last
    ) = 1

)

select * from newest_moments
