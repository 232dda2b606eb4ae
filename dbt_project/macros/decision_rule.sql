{# The names of the rules that can stand against a message, one line a model of
   `decisions/rules`, each of which states its own. #}
{% macro rule_names() -%}
    erased hub_profile global_control holdout
    journey_set_aside no_longer_due expired cart_emptied journey_cap
    override_never_contact override_channel audience_set_aside
    no_destination unreachable suppression_list
    unsubscribed consent_denied consent_missing
    shared_address
    restoration high_stakes post_purchase
    quiet_hours
    frequency_cap
    better_send_time
    another_channel arbitration warm_up
    channel_stopped breaker
{%- endmacro %}

{# The name of a rule as text; an error where no model is to state it. #}
{% macro stated_rule(rule) -%}
    {%- if rule not in rule_names().split() -%}
        {{ exceptions.raise_compiler_error(
            'the macro rule_names has no rule ' ~ rule
        ) }}
    {%- endif -%}
    '{{ rule }}'
{%- endmacro %}

{# The window in hours, or the limit, of a rule. #}
{% macro decision_rule(rule, column) -%}
    (
        select {{ column }} from {{ ref('rules') }}
        where rule = {{ stated_rule(rule) }}
    )
{%- endmacro %}

{# Whether a row of `rules` is about a class of messages. #}
{% macro rule_applies(message_class) -%}
    case {{ message_class }}
        when 'marketing' then rules.for_marketing
        else rules.for_transactional
    end
{%- endmacro %}

{# Profiles that are in a journey now, or whom a send waits to be delivered to. #}
{% macro enrolled_profiles() -%}
    select distinct profile_id
    from {{ ref('enrollments') }}
    where
        state = 'active'
        or enrollment_id in (
            select sends.enrollment_id from {{ ref('stg_sends') }} as sends
            where sends.state = 'pending'
        )
{%- endmacro %}

{# Whether a row of `consent_blocks` is about messages of a journey's purpose. #}
{% macro is_of_purpose(purpose) -%}
    consent_blocks.purpose in ('*', coalesce({{ purpose }}, ''))
{%- endmacro %}
