-- One row per rule that can stand against a message, as the seed has it; an error that
-- says what to mend where rules and seeds do not fit: no rule ends in silence.
{%- set windows = ['expired', 'high_stakes', 'post_purchase'] %}
{%- set limits = ['global_control', 'another_channel'] %}
with

decision_rules as (

    select * from {{ ref('decision_rules') }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

frequency_caps as (

    select * from {{ ref('frequency_caps') }}

),

legal_rules as (

    select * from {{ ref('legal_rules') }}

),

used_channels as (

    select distinct channel from {{ ref('stg_journey_steps') }}

),

stated_rules as (

    {%- for rule in rule_names().split() %}
    select
        '{{ rule }}' as rule,
        {{ rule in windows }} as needs_window,
        {{ rule in limits }} as needs_limit
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

judge_rules as (

    select
        coalesce(stated_rules.rule, decision_rules.rule, '') as rule,
        case
            when decision_rules.rule is null then 'the rule has no row'
            when stated_rules.rule is null then 'there is no such rule'
            when count(*) over (partition by decision_rules.rule) > 1
                then 'more than one row has it'
            when decision_rules.rule_order is null then 'rule_order is missing'
            when coalesce(decision_rules.verdict, '') not in ('held', 'suppressed')
                then 'a verdict is held or suppressed'
            when
                decision_rules.for_marketing is null
                or decision_rules.for_transactional is null
                then 'for_marketing and for_transactional are true or false'
            when stated_rules.needs_window and decision_rules.window_hours is null
                then 'window_hours is missing'
            when stated_rules.needs_limit and decision_rules.limit_value is null
                then 'limit_value is missing'
        end as mistake
    from stated_rules
    full outer join decision_rules on stated_rules.rule = decision_rules.rule

),

list_mistakes as (

    select 'decision_rules.csv, ' || rule || ': ' || mistake as mistake
    from judge_rules
    where mistake is not null

    union all

    select 'channel_rules.csv: the channel ' || channel || ' has no row' as mistake
    from used_channels
    where channel not in (select channel_rules.channel from channel_rules)

    union all

    select
        'channel_rules.csv, ' || channel
        || ': needs_opt_in and counts_to_frequency_cap are true or false' as mistake
    from channel_rules
    where needs_opt_in is null or counts_to_frequency_cap is null

    union all

    select
        'frequency_caps.csv, ' || coalesce(channel, 'all channels')
        || ': the channel is one of channel_rules.csv or empty, the message_class '
        || 'marketing, transactional or empty, window_hours and limit_value are more '
        || 'than nothing' as mistake
    from frequency_caps
    where
        coalesce(window_hours <= 0, true)
        or coalesce(limit_value < 1, true)
        or message_class not in ('marketing', 'transactional')
        or channel not in (select channel_rules.channel from channel_rules)

    union all

    select
        'legal_rules.csv, ' || jurisdiction || ', ' || channel
        || ': the rule is sending_hours or sunday_sending_hours, its value two hours '
        || 'like 08-21' as mistake
    from legal_rules
    where
        coalesce(rule not in ('sending_hours', 'sunday_sending_hours'), true)
        or coalesce(value not like '__-__', true)
        or try_cast(left(value, 2) as integer) is null
        or try_cast(right(value, 2) as integer) is null

),

validation_errors as (

    select {{ joined_list(ordered_list('mistake', 'mistake asc'), '; ') }} as mistakes
    from list_mistakes

),

stop_on_mistakes as (

    select decision_rules.*
    from decision_rules
    cross join validation_errors
    where {{ raise_if_any("nullif(validation_errors.mistakes, '')") }}

)

select * from stop_on_mistakes
