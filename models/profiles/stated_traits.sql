{%- set traits = [
    'email', 'phone', 'first_name', 'last_name', 'gender', 'birthday', 'timezone',
    'country', 'region', 'city', 'postal_code', 'street', 'preferred_channel', 'goal',
] -%}
{%- set verified = ['email', 'phone'] -%}
-- One row per profile and trait that it stated: the value that survives, by the
-- preferences of its rule, one after the other.
with

events as (

    select * from {{ ref('stg_events') }}
    where type = 'identify' and traits is not null

),

identify_calls as (

    select * from {{ ref('stg_identify_calls') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

survivorship_rules as (

    select * from {{ ref('survivorship_rules') }}

),

-- traits that staging does not read: a rule is all that it takes to know one
own_rules as (

    select
        trait,
        {{ spelled('trait') }} as spelled_trait
    from survivorship_rules
    where
        trait not in (
            {%- for trait in traits %}
            '{{ trait }}'{{ ',' if not loop.last }}
            {%- endfor %}
        )

),

find_keys as (

    select
        events.message_id,
        events.user_id,
        events.traits,
        own_rules.trait,
        list_min(list_filter(
            json_keys(events.traits),
            lambda named: {{ spelled('named') }} = own_rules.spelled_trait
        )) as named
    from events
    cross join own_rules

),

list_values as (

    {%- for trait in traits %}
    select
        message_id,
        user_id is not null as is_user_scoped,
        '{{ trait }}' as trait,
        cast({{ trait }} as varchar) as value,
        {{ 'is_' ~ trait ~ '_verified' if trait in verified else 'false' }}
            as is_verified
    from identify_calls
    where {{ trait }} is not null
    union all
    {%- endfor %}
    select
        message_id,
        user_id is not null as is_user_scoped,
        trait,
        nullif(trim({{ json_text_at('traits', "'$.\"' || named || '\"'") }}), '')
            as value,
        false as is_verified
    from find_keys
    where nullif(trim({{ json_text_at('traits', "'$.\"' || named || '\"'") }}), '')
        is not null

),

assign_profiles as (

    select
        list_values.*,
        profile_events.profile_id,
        profile_events.occurred_at
    from list_values
    inner join profile_events on list_values.message_id = profile_events.message_id

),

weigh_values as (

    select
        *,
        -- what was said at one moment is equally new
        rank() over (
            partition by profile_id, trait order by occurred_at desc
        ) as newness,
        count(*) over (partition by profile_id, trait, value) as statement_count,
        coalesce(
            last_value(is_verified ignore nulls) over (
                partition by profile_id, trait, value
                order by occurred_at asc, message_id asc
                rows between unbounded preceding and unbounded following
            ),
            false
        ) as is_value_verified
    from assign_profiles

),

keep_preferred as (

    select
        weigh_values.profile_id,
        weigh_values.trait,
        weigh_values.value
    from weigh_values
    inner join survivorship_rules on weigh_values.trait = survivorship_rules.trait
    qualify row_number() over (
        partition by weigh_values.profile_id, weigh_values.trait
        order by
            {%- for preference in ['first', 'second', 'third'] %}
            case survivorship_rules.{{ preference }}_preference
                when 'verified'
                    then case when weigh_values.is_value_verified then 0 else 1 end
                when 'user_scoped'
                    then case when weigh_values.is_user_scoped then 0 else 1 end
                when 'most_frequent' then -weigh_values.statement_count
                when 'newest' then weigh_values.newness
                when 'oldest' then -weigh_values.newness
            end asc nulls last,
            {%- endfor %}
            weigh_values.newness asc,
            weigh_values.value asc,
            weigh_values.message_id asc
    ) = 1

)

select * from keep_preferred
