{%- set traits = [
    'email', 'phone', 'first_name', 'last_name', 'gender', 'birthday', 'timezone',
    'country', 'region', 'city', 'postal_code', 'street', 'preferred_channel', 'goal',
] -%}
-- One row per profile that stated traits: for each the value that survives.
with

identify_calls as (

    select * from {{ ref('stg_identify_calls') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

survivorship_rules as (

    select * from {{ ref('survivorship_rules') }}

),

list_values as (

    {%- for trait in traits %}
    select
        message_id,
        user_id is not null as is_user_scoped,
        '{{ trait }}' as trait,
        cast({{ trait }} as varchar) as value
    from identify_calls
    where {{ trait }} is not null
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

rank_values as (

    select
        profile_events.profile_id,
        list_values.trait,
        list_values.value
    from list_values
    inner join profile_events on list_values.message_id = profile_events.message_id
    inner join survivorship_rules on list_values.trait = survivorship_rules.trait
    qualify row_number() over (
        partition by profile_events.profile_id, list_values.trait
        order by
            case
                when
                    survivorship_rules.is_user_scoped_first
                    and not list_values.is_user_scoped
                    then 1
                else 0
            end asc,
            case
                when survivorship_rules.strategy = 'oldest'
                    then profile_events.occurred_at
            end asc nulls last,
            case
                when survivorship_rules.strategy = 'newest'
                    then profile_events.occurred_at
            end desc nulls last,
            list_values.message_id asc
    ) = 1

),

spread_traits as (

    select
        profile_id,
        {%- for trait in traits %}
        max(case when trait = '{{ trait }}' then value end) as {{ trait }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from rank_values
    group by profile_id

)

select * from spread_traits
