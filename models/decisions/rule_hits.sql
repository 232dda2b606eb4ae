-- One row per possible send and rule that stands against it, looked at alone.
{%- set families = [
    ('exclusion_blocks', none, none),
    ('channel_blocks', none, 'reason_detail'),
    ('enrollment_blocks', 'evidence_message_id', 'reason_detail'),
    ('override_blocks', none, 'reason_detail'),
    ('quiet_period_blocks', 'evidence_message_id', 'reason_detail'),
    ('quiet_hour_blocks', none, 'reason_detail'),
    ('frequency_blocks', 'evidence_message_id', 'reason_detail'),
    ('send_time_blocks', none, none),
] %}
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

rules as (

    select * from {{ ref('rules') }}

),

reach_blocks as (

    select * from {{ ref('reach_blocks') }}

),

consent_blocks as (

    select * from {{ ref('consent_blocks') }}

),

address_blocks as (

    select * from {{ ref('address_blocks') }}

),

collect_hits as (

    {%- for family, evidence, detail in families %}
    select
        send_id,
        rule,
        {{ evidence or 'cast(null as varchar)' }} as evidence_message_id,
        {{ detail or 'cast(null as varchar)' }} as reason_detail
    from {{ ref(family) }}

    union all
    {% endfor %}
    select
        possible_sends.send_id,
        reach_blocks.rule,
        reach_blocks.evidence_message_id,
        cast(null as varchar) as reason_detail
    from possible_sends
    inner join reach_blocks
        on
            possible_sends.profile_id = reach_blocks.profile_id
            and possible_sends.channel = reach_blocks.channel

    union all

    select
        possible_sends.send_id,
        consent_blocks.rule,
        consent_blocks.evidence_message_id,
        cast(null as varchar) as reason_detail
    from possible_sends
    left join journeys on possible_sends.journey = journeys.journey
    inner join consent_blocks
        on
            possible_sends.profile_id = consent_blocks.profile_id
            and possible_sends.channel = consent_blocks.channel
            and possible_sends.message_class = consent_blocks.message_class
            and {{ is_of_purpose('journeys.purpose') }}

    union all

    select
        possible_sends.send_id,
        address_blocks.rule,
        cast(null as varchar) as evidence_message_id,
        cast(null as varchar) as reason_detail
    from possible_sends
    inner join address_blocks
        on
            possible_sends.enrollment_id = address_blocks.enrollment_id
            and possible_sends.step = address_blocks.step
            and possible_sends.channel = address_blocks.channel

),

keep_rules_of_class as (

    select
        collect_hits.send_id,
        collect_hits.rule,
        rules.rule_order,
        rules.verdict,
        coalesce(
            collect_hits.evidence_message_id, possible_sends.evidence_message_id
        ) as evidence_message_id,
        collect_hits.reason_detail
    from collect_hits
    inner join possible_sends on collect_hits.send_id = possible_sends.send_id
    inner join rules on collect_hits.rule = rules.rule
    where {{ rule_applies('possible_sends.message_class') }}
    -- a rule may have several reasons: a no to marketing and one to the topic
    qualify row_number() over (
        partition by collect_hits.send_id, collect_hits.rule
        order by
            collect_hits.evidence_message_id asc nulls last,
            collect_hits.reason_detail asc nulls last
    ) = 1

)

select * from keep_rules_of_class
