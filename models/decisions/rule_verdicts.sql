-- One row per decision and rule that looked at it: whether it stands against the
-- message, by what, and what would hold without it.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    full_refresh=false,
) }}

with

run as (

    select * from {{ ref('stg_run') }}

),

decisions as (

    select decisions.*
    from {{ ref('decisions') }} as decisions
    inner join run on decisions.as_of = run.as_of
    {%- if is_incremental() %}
    where
        decisions.decision_id not in (select known.decision_id from {{ this }} as known)
    {%- endif %}

),

verdicts as (

    select
        verdicts.*,
        case
            when verdicts.message_class = 'marketing' then contact_points.address
        end as shared_address
    from {{ ref('verdicts') }} as verdicts
    left join {{ ref('contact_points') }} as contact_points
        on
            verdicts.profile_id = contact_points.profile_id
            and verdicts.channel = contact_points.channel

),

due_steps as (

    select * from {{ ref('due_steps') }}

),

rules as (

    select * from {{ ref('rules') }}

),

rule_hits as (

    select * from {{ ref('rule_hits') }}

),

-- a message that nothing stands against goes, unless another goes before it
find_rivals as (

    select
        verdicts.candidate_id,
        verdicts.message_class,
        count(*) over (partition by verdicts.enrollment_id, verdicts.step) > 1
            as has_other_channels,
        case
            when
                verdicts.enrollment_id = rivals.enrollment_id
                and verdicts.step = rivals.step
                then
                    case
                        when
                            due_steps.uses_next_best_channel
                            or due_steps.channel_position > rival_steps.channel_position
                            then {{ stated_rule('another_channel') }}
                    end
            when
                (
                    rivals.priority,
                    rivals.entered_at,
                    rivals.enrollment_id,
                    rivals.step_position,
                    rivals.send_id
                ) < (
                    verdicts.priority,
                    verdicts.entered_at,
                    verdicts.enrollment_id,
                    verdicts.step_position,
                    verdicts.send_id
                )
                then {{ stated_rule('arbitration') }}
        end as rule_by_rival,
        case
            when
                verdicts.shared_address is not null
                and coalesce(bool_or(verdicts.verdict = 'send') over (
                    partition by
                        verdicts.channel,
                        verdicts.shared_address,
                        verdicts.journey,
                        verdicts.step
                    order by verdicts.entered_at asc, verdicts.send_id asc
                    rows between unbounded preceding and 1 preceding
                ), false)
                then {{ stated_rule('arbitration') }}
        end as rule_by_address
    from verdicts
    left join verdicts as rivals
        on
            verdicts.profile_id = rivals.profile_id
            and verdicts.send_id <> rivals.send_id
            and rivals.verdict = 'send'
    left join due_steps on verdicts.candidate_id = due_steps.candidate_id
    left join due_steps as rival_steps
        on rivals.candidate_id = rival_steps.candidate_id

),

-- the one that decided, and the others that stand against it too
list_hits as (

    select
        verdicts.candidate_id as decision_id,
        rule_hits.rule,
        rule_hits.evidence_message_id,
        rule_hits.reason_detail
    from rule_hits
    inner join verdicts on rule_hits.send_id = verdicts.send_id
    union all
    select
        decision_id,
        reason as rule,
        evidence_message_id,
        reason_detail
    from decisions
    where reason <> 'due'

),

first_hits as (

    select * from list_hits
    qualify row_number() over (
        partition by decision_id, rule
        order by evidence_message_id asc nulls last, reason_detail asc nulls last
    ) = 1

),

list_looks as (

    select
        decisions.decision_id,
        decisions.as_of,
        decisions.reason,
        rules.rule,
        rules.rule_order,
        case when first_hits.rule is null then 'passed' else rules.verdict end
            as verdict,
        first_hits.reason_detail as value,
        rules.limit_value,
        rules.window_hours,
        first_hits.evidence_message_id,
        lead(first_hits.rule) over same_decision as next_hit,
        lead(rules.verdict) over same_decision as next_verdict,
        find_rivals.has_other_channels,
        coalesce(
            find_rivals.rule_by_rival, find_rivals.rule_by_address, 'due'
        ) as reason_without_rules
    from decisions
    inner join find_rivals on decisions.decision_id = find_rivals.candidate_id
    inner join rules on {{ rule_applies('find_rivals.message_class') }}
    left join first_hits
        on
            decisions.decision_id = first_hits.decision_id
            and rules.rule = first_hits.rule
    -- these are asked last, of what no other rule stands against
    where
        rules.rule not in (
            {{ stated_rule('another_channel') }},
            {{ stated_rule('arbitration') }},
            {{ stated_rule('warm_up') }}
        )
        or decisions.reason in (
            'due',
            {{ stated_rule('another_channel') }},
            {{ stated_rule('arbitration') }},
            {{ stated_rule('warm_up') }}
        )
    window same_decision as (
        partition by decisions.decision_id, first_hits.rule is not null
        order by rules.rule_order asc
    )

),

weigh_rules as (

    select
        decision_id,
        rule,
        as_of,
        verdict,
        value,
        limit_value,
        window_hours,
        evidence_message_id,
        case
            when verdict = 'passed' or rule <> reason then reason
            when
                rule in (
                    {{ stated_rule('another_channel') }},
                    {{ stated_rule('arbitration') }}
                )
                then coalesce(next_hit, 'due')
            when
                verdict = 'suppressed'
                and has_other_channels
                and coalesce(next_verdict, 'none') <> 'suppressed'
                then null
            else coalesce(next_hit, reason_without_rules)
        end as counterfactual
    from list_looks

)

select * from weigh_rules
