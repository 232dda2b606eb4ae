-- One row per test of a trait or an identifier and person who passes it. Hubs are no
-- persons.
{%- set key = ['journey', 'audience', 'place', 'step', 'alternative', 'test', 'kind'] %}
with

run as (

    select * from {{ ref('stg_run') }}

),

conditions as (

    select * from {{ ref('stg_conditions') }}
    where kind in ('trait', 'identifier')

),

profiles as (

    select * from {{ ref('profiles') }}
    where not is_hub

),

identity_map as (

    select * from {{ ref('identity_map') }}

),

look_up_traits as (

    select
        conditions.*,
        profiles.profile_id,
        {{ named_column('conditions.name', 'profiles') }} as found_value
    from conditions
    cross join profiles
    where conditions.kind = 'trait'

),

pass_traits as (

    select look_up_traits.*
    from look_up_traits
    cross join run
    where
        {{ passes_all(
            'look_up_traits.property_tests',
            'list_transform(look_up_traits.property_tests, '
            ~ 'lambda asked: look_up_traits.found_value)',
            'run.as_of'
        ) }}

),

list_identifiers as (

    select
        {{ key | join(', ') }},
        {{ unnest_items('names') }} as spelling
    from conditions
    where kind = 'identifier'

),

split_identifiers as (

    select
        *,
        split_part(spelling, ':', 1) as identifier_type,
        trim(substr(spelling, position(':' in spelling) + 1)) as stated_identifier
    from list_identifiers

),

normal_identifiers as (

    select
        {{ key | join(', ') }},
        identifier_type,
        {{ normal_identifier(
            'identifier_type', 'stated_identifier', 'stated_identifier'
        ) }} as identifier
    from split_identifiers

),

have_identifiers as (

    select distinct
        {%- for column in key %}
        normal_identifiers.{{ column }},
        {%- endfor %}
        profiles.profile_id
    from normal_identifiers
    inner join identity_map
        on
            normal_identifiers.identifier_type = identity_map.identifier_type
            and normal_identifiers.identifier = identity_map.identifier
    inner join profiles on identity_map.profile_id = profiles.profile_id

),

unite_tests as (

    select
        {{ key | join(', ') }},
        profile_id
    from pass_traits
    union all
    select * from have_identifiers

)

select * from unite_tests
