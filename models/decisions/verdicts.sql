-- One row per due step and channel: send it, hold it or suppress it, and the first rule
-- that says so.
with

due_steps as (

    select * from {{ ref('due_steps') }}

),

rule_hits as (

    select * from {{ ref('rule_hits') }}

),

rules as (

    select * from {{ ref('decision_rules') }}

),

channel_choices as (

    select * from {{ ref('channel_choices') }}

),

rank_journeys as (

    select
        *,
        row_number() over (
            partition by profile_id
            order by
                priority asc,
                entered_at asc,
                enrollment_id asc,
                step_position asc
        ) as journey_rank
    from channel_choices
    where
        is_chosen
        and candidate_id not in (select rule_hits.candidate_id from rule_hits)

),

lose_to_others as (

    select
        candidate_id,
        'another_channel' as rule,
        evidence_message_id
    from channel_choices
    where not is_chosen

    union all

    select
        candidate_id,
        'arbitration' as rule,
        evidence_message_id
    from rank_journeys
    where journey_rank > 1

),

collect_hits as (

    select
        candidate_id,
        rule,
        rule_order,
        verdict,
        evidence_message_id
    from rule_hits

    union all

    select
        lose_to_others.candidate_id,
        lose_to_others.rule,
        rules.rule_order,
        rules.verdict,
        lose_to_others.evidence_message_id
    from lose_to_others
    inner join rules on lose_to_others.rule = rules.rule

),

first_hits as (

    select * from collect_hits
    qualify row_number() over (
        partition by candidate_id order by rule_order asc, evidence_message_id asc
    ) = 1

),

-- the arm alone stands against it: in the other arm it would have gone out
find_withheld as (

    select candidate_id
    from rule_hits
    group by candidate_id
    having
        count(*) = 1
        and max(case when rule in ('global_control', 'holdout') then 1 else 0 end) = 1

),

judge as (

    select
        due_steps.*,
        coalesce(first_hits.verdict, 'send') as verdict,
        coalesce(first_hits.rule, 'due') as reason,
        coalesce(
            first_hits.evidence_message_id, due_steps.evidence_message_id
        ) as verdict_evidence_message_id,
        channel_choices.choice_probability,
        find_withheld.candidate_id is not null as is_withheld
    from due_steps
    left join find_withheld on due_steps.candidate_id = find_withheld.candidate_id
    left join channel_choices on due_steps.candidate_id = channel_choices.candidate_id
    left join first_hits on due_steps.candidate_id = first_hits.candidate_id

)

select * from judge
