-- One row per audience and person of whom its condition holds as of this run. Hubs are
-- no persons.
with

run as (

    select * from {{ ref('stg_run') }}

),

conditions as (

    select * from {{ ref('stg_conditions') }}
    where place = 'audience'

),

condition_traits as (

    select * from {{ ref('condition_traits') }}
    where place = 'audience'

),

condition_events as (

    select * from {{ ref('condition_events') }}
    where place = 'audience'

),

missteps as (

    select * from {{ ref('missteps') }}
    where is_open

),

intents as (

    select * from {{ ref('intents') }}

),

persons as (

    select profile_id from {{ ref('profiles') }}
    where not is_hub

),

pass_tests as (

    select
        audience,
        alternative,
        test,
        profile_id
    from condition_traits

    union all

    select
        conditions.audience,
        conditions.alternative,
        conditions.test,
        condition_events.profile_id
    from conditions
    cross join run
    inner join condition_events
        on
            conditions.audience = condition_events.audience
            and conditions.alternative = condition_events.alternative
            and conditions.test = condition_events.test
    where
        conditions.within_seconds is null
        or {{ add_seconds(
            'condition_events.occurred_at', 'conditions.within_seconds'
        ) }} > run.as_of
    group by
        conditions.audience,
        conditions.alternative,
        conditions.test,
        conditions.minimum_count,
        condition_events.profile_id
    having count(*) >= conditions.minimum_count

    union all

    select distinct
        conditions.audience,
        conditions.alternative,
        conditions.test,
        missteps.profile_id
    from conditions
    inner join missteps on conditions.kind = 'misstep'

    union all

    select
        conditions.audience,
        conditions.alternative,
        conditions.test,
        intents.profile_id
    from conditions
    inner join intents
        on
            conditions.kind = 'intent'
            and array_contains(conditions.names, intents.intent)

),

count_tests as (

    select
        audience,
        alternative,
        count(case when not is_negated then 1 end) as test_count
    from conditions
    group by audience, alternative

),

-- a way that asks only for what is not so is open to everybody at first
list_candidates as (

    select
        count_tests.audience,
        count_tests.alternative,
        pass_tests.profile_id
    from pass_tests
    inner join conditions
        on
            pass_tests.audience = conditions.audience
            and pass_tests.alternative = conditions.alternative
            and pass_tests.test = conditions.test
            and not conditions.is_negated
    inner join count_tests
        on
            pass_tests.audience = count_tests.audience
            and pass_tests.alternative = count_tests.alternative
    group by
        count_tests.audience,
        count_tests.alternative,
        count_tests.test_count,
        pass_tests.profile_id
    having count(*) = count_tests.test_count

    union all

    select
        count_tests.audience,
        count_tests.alternative,
        persons.profile_id
    from count_tests
    cross join persons
    where count_tests.test_count = 0

),

meet_conditions as (

    select distinct
        list_candidates.audience,
        list_candidates.profile_id
    from list_candidates
    inner join persons on list_candidates.profile_id = persons.profile_id
    where
        not exists (
            select 1 from pass_tests
            inner join conditions
                on
                    pass_tests.audience = conditions.audience
                    and pass_tests.alternative = conditions.alternative
                    and pass_tests.test = conditions.test
                    and conditions.is_negated
            where
                pass_tests.audience = list_candidates.audience
                and pass_tests.alternative = list_candidates.alternative
                and pass_tests.profile_id = list_candidates.profile_id
        )

)

select * from meet_conditions
