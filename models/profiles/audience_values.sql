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
-- One row per person and fact that some rule of an audience looks at, unknown or not;
-- of identifiers, one per identifier that a rule names.
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

named_facts as (

    select distinct fact
    from conditions
    where kind <> 'identifier'

),

named_identifiers as (

    select distinct {{ unnest_items('operands') }} as identifier
    from conditions
    where kind = 'identifier'

),

look_up_facts as (

    select
        profiles.profile_id,
        named_facts.fact,
        case named_facts.fact
            {%- for fact, value in facts.text.items() %}
            when '{{ fact }}' then lower(trim({{ value }}))
            {%- endfor %}
        end as fact_text,
        case named_facts.fact
            {%- for fact, value in facts.number.items() %}
            when '{{ fact }}' then cast({{ value }} as decimal(18, 6))
            {%- endfor %}
        end as fact_amount,
        case named_facts.fact
            {%- for fact, value in facts.date.items() %}
            when '{{ fact }}' then {{ value }}
            {%- endfor %}
        end as fact_at
    from profiles
    cross join run
    cross join named_facts
    left join rfm on profiles.profile_id = rfm.profile_id
    left join intents on profiles.profile_id = intents.profile_id

),

find_identifiers as (

    select
        profiles.profile_id,
        'identifier' as fact,
        named_identifiers.identifier as fact_text,
        cast(null as decimal(18, 6)) as fact_amount,
        cast(null as timestamp) as fact_at
    from named_identifiers
    inner join identity_map
        on
            named_identifiers.identifier
            = identity_map.identifier_type || ':' || identity_map.identifier
    inner join profiles on identity_map.profile_id = profiles.profile_id

),

list_values as (

    select
        profile_id,
        fact,
        coalesce(
            fact_text, cast(fact_amount as varchar), cast(fact_at as varchar)
        ) as fact_text,
        fact_amount,
        fact_at
    from look_up_facts

    union all

    select * from find_identifiers

)

select * from list_values
