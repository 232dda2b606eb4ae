-- One row per possible send: send it, hold it or suppress it, and the first rule that
-- says so.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

rule_hits as (

    select * from {{ ref('rule_hits') }}

),

competition_blocks as (

    select * from {{ ref('competition_blocks') }}

),

rules as (

    select * from {{ ref('rules') }}

),

channel_choices as (

    select * from {{ ref('channel_choices') }}

),

collect_hits as (

    select * from rule_hits

    union all

    select
        competition_blocks.send_id,
        competition_blocks.rule,
        rules.rule_order,
        rules.verdict,
        cast(null as varchar) as evidence_message_id,
        cast(null as varchar) as reason_detail
    from competition_blocks
    inner join rules on competition_blocks.rule = rules.rule

),

first_hits as (

    select * from collect_hits
    qualify row_number() over (
        partition by send_id order by rule_order asc, evidence_message_id asc
    ) = 1

),

-- the arm alone stands against it: in the other arm it would have gone out
find_withheld as (

    select send_id
    from rule_hits
    group by send_id
    having
        count(*) = 1
        and max(case when rule in ('global_control', 'holdout') then 1 else 0 end) = 1

),

judge as (

    select
        possible_sends.*,
        coalesce(first_hits.verdict, 'send') as verdict,
        coalesce(first_hits.rule, 'due') as reason,
        first_hits.reason_detail,
        coalesce(
            first_hits.evidence_message_id, possible_sends.evidence_message_id
        ) as verdict_evidence_message_id,
        channel_choices.choice_probability,
        find_withheld.send_id is not null as is_withheld
    from possible_sends
    left join find_withheld on possible_sends.send_id = find_withheld.send_id
    left join channel_choices on possible_sends.send_id = channel_choices.send_id
    left join first_hits on possible_sends.send_id = first_hits.send_id

)

select * from judge
