{%- set facts = {
    'text': {
        'city': 'profiles.city',
        'country': 'profiles.country',
        'email': 'profiles.email',
        'email_domain': "split_part(profiles.email, '@', 2)",
        'gender': 'profiles.gender',
        'goal': 'profiles.goal',
        'intent': 'intents.intent',
        'phone': 'profiles.phone',
        'postal_code': 'profiles.postal_code',
        'preferred_channel': 'profiles.preferred_channel',
        'region': 'profiles.region',
        'rfm_segment': 'rfm.rfm_segment',
        'timezone': 'profiles.timezone',
        'user_id': 'profiles.user_id',
    },
    'number': {
        'days_since_first_seen': days_between('profiles.first_seen_at', 'run.as_of'),
        'days_since_last_order': days_between('profiles.last_order_at', 'run.as_of'),
        'days_since_last_seen': days_between('profiles.last_seen_at', 'run.as_of'),
        'device_count': 'profiles.device_count',
        'order_count': 'profiles.order_count',
        'revenue_amount': 'profiles.revenue_amount',
        'session_count': 'profiles.session_count',
        'store_order_count': 'profiles.store_order_count',
    },
    'date': {
        'first_order_at': 'profiles.first_order_at',
        'first_seen_at': 'profiles.first_seen_at',
        'last_order_at': 'profiles.last_order_at',
        'last_seen_at': 'profiles.last_seen_at',
        'last_session_at': 'profiles.last_session_at',
    },
} -%}
-- One row per rule of an audience and person who meets it. Hubs are no persons.
with

run as (

    select * from {{ ref('stg_run') }}

),

conditions as (

    select * from {{ ref('audience_conditions') }}

),

profiles as (

    select * from {{ ref('profiles') }}
    where not is_hub

),

rfm as (

    select * from {{ ref('rfm') }}

),

intents as (

    select * from {{ ref('intents') }}

),

identity_map as (

    select * from {{ ref('identity_map') }}

),

list_identifiers as (

    select
        audience,
        rule_number,
        {{ unnest_items('operands') }} as identifier
    from conditions
    where kind = 'identifier'

),

-- a branch per fact, so that facts which no rule looks at cost nothing
find_matches as (

    {%- for kind, values in facts.items() %}
    {%- for fact, value in values.items() %}
    select
        conditions.audience,
        conditions.rule_number,
        profiles.profile_id
    from profiles
    inner join conditions on conditions.fact = '{{ fact }}'
    {%- if kind == 'number' %}
    cross join run
    {%- elif 'rfm.' in value %}
    left join rfm on profiles.profile_id = rfm.profile_id
    {%- elif 'intents.' in value %}
    left join intents on profiles.profile_id = intents.profile_id
    {%- endif %}
    where
        case conditions.comparison
            when 'is_known' then {{ value }} is not null
            when 'is_unknown' then {{ value }} is null
            {%- if kind == 'date' %}
            when 'before' then {{ value }} < conditions.operand_at
            when 'after' then {{ value }} >= conditions.operand_at
            {%- else %}
            {%- if kind == 'number' %}
            when 'at_least' then {{ value }} >= conditions.operand_amount
            when 'at_most' then {{ value }} <= conditions.operand_amount
            {%- endif %}
            else
                (conditions.comparison in ('is', 'in')) = coalesce(
                    array_contains(
                        conditions.operands,
                        {%- if kind == 'number' %}
                        cast(cast({{ value }} as decimal(18, 6)) as varchar)
                        {%- else %}
                        lower(trim({{ value }}))
                        {%- endif %}
                    ),
                    false
                )
            {%- endif %}
        end

    union all
    {% endfor %}
    {%- endfor %}

    select distinct
        list_identifiers.audience,
        list_identifiers.rule_number,
        profiles.profile_id
    from list_identifiers
    inner join identity_map
        on
            list_identifiers.identifier
            = identity_map.identifier_type || ':' || identity_map.identifier
    inner join profiles on identity_map.profile_id = profiles.profile_id

)

select * from find_matches
