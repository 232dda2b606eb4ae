-- One row per due step, channel and rule that stands against it, looked at alone.
with

due_steps as (

    select * from {{ ref('due_steps') }}

),

rules as (

    select * from {{ ref('decision_rules') }}

),

profile_blocks as (

    select * from {{ ref('profile_blocks') }}

),

channel_blocks as (

    select * from {{ ref('channel_blocks') }}

),

quiet_hours as (

    select * from {{ ref('quiet_hours') }}

),

override_hits as (

    select * from {{ ref('override_hits') }}

),

send_time_holds as (

    select * from {{ ref('send_time_holds') }}

),

collect_hits as (

    select
        candidate_id,
        assignment as rule,
        cast(null as varchar) as evidence_message_id
    from due_steps
    where assignment in ('global_control', 'holdout')

    union all

    select
        due_steps.candidate_id,
        profile_blocks.rule,
        profile_blocks.evidence_message_id
    from due_steps
    inner join profile_blocks on due_steps.profile_id = profile_blocks.profile_id

    union all

    select
        due_steps.candidate_id,
        channel_blocks.rule,
        channel_blocks.evidence_message_id
    from due_steps
    inner join channel_blocks
        on
            due_steps.profile_id = channel_blocks.profile_id
            and due_steps.channel = channel_blocks.channel

    union all

    select
        candidate_id,
        'quiet_hours' as rule,
        cast(null as varchar) as evidence_message_id
    from quiet_hours

    union all

    select
        candidate_id,
        rule,
        cast(null as varchar) as evidence_message_id
    from override_hits

    union all

    select
        candidate_id,
        'better_send_time' as rule,
        cast(null as varchar) as evidence_message_id
    from send_time_holds

),

keep_rules_of_class as (

    select
        collect_hits.candidate_id,
        collect_hits.rule,
        rules.rule_order,
        rules.verdict,
        coalesce(
            collect_hits.evidence_message_id, due_steps.evidence_message_id
        ) as evidence_message_id
    from collect_hits
    inner join due_steps on collect_hits.candidate_id = due_steps.candidate_id
    inner join rules on collect_hits.rule = rules.rule
    where
        (due_steps.message_class = 'marketing' and rules.for_marketing)
        or (due_steps.message_class = 'transactional' and rules.for_transactional)

)

select * from keep_rules_of_class
