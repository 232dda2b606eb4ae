-- One row per journey, profile and evidence by which its entry conditions hold at this
-- as_of: the newest evidence, but for journeys that begin anew with each.
with

run as (

    select * from {{ ref('stg_run') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

conditions as (

    select * from {{ ref('stg_conditions') }}
    where place = 'entry' and kind <> 'without'

),

facts as (

    select * from {{ ref('condition_facts') }}
    where place = 'entry'

),

profiles as (

    select * from {{ ref('profiles') }}

),

intents as (

    select * from {{ ref('intents') }}

),

product_stats as (

    select * from {{ ref('product_stats') }}

),

count_tests as (

    select
        journey,
        alternative,
        count(case when not is_negated then 1 end) as test_count
    from conditions
    group by journey, alternative

),

mark_facts as (

    select
        facts.*,
        conditions.is_negated,
        -- what happened goes before what is so
        case
            when facts.kind in ('intent', 'misstep') then 2
            when facts.kind in ('phase', 'audience', 'trait', 'identifier', 'score')
                then 3
            else 1
        end as rank
    from facts
    inner join conditions
        on
            facts.journey = conditions.journey
            and facts.alternative = conditions.alternative
            and facts.test = conditions.test

),

meet_all_tests as (

    select
        mark_facts.journey,
        mark_facts.alternative,
        mark_facts.profile_id
    from mark_facts
    inner join count_tests
        on
            mark_facts.journey = count_tests.journey
            and mark_facts.alternative = count_tests.alternative
    group by
        mark_facts.journey,
        mark_facts.alternative,
        mark_facts.profile_id,
        count_tests.test_count
    having
        count(distinct case when not mark_facts.is_negated then mark_facts.test end)
        = count_tests.test_count
        and not bool_or(mark_facts.is_negated)

),

match_conditions as (

    select
        journeys.journey,
        journeys.version as journey_version,
        journeys.definition_hash,
        journeys.message_class,
        journeys.holdout_rate,
        journeys.re_eligible_after_seconds,
        facts.profile_id,
        facts.trigger_value,
        facts.evidence_message_id,
        facts.entry_key,
        facts.triggered_at,
        profiles.identifier_type,
        profiles.identifier,
        coalesce(facts.product_id, intents.product_id) as product_id,
        case
            when coalesce(facts.product_id = intents.product_id, true)
                then intents.product_name
            else product_stats.product_name
        end as product_name,
        case
            when coalesce(facts.product_id = intents.product_id, true)
                then intents.category
            else product_stats.category
        end as category,
        case
            when coalesce(facts.product_id = intents.product_id, true)
                then intents.price
        end as product_price,
        intents.cart_value_amount
    from meet_all_tests
    inner join mark_facts as facts
        on
            meet_all_tests.journey = facts.journey
            and meet_all_tests.alternative = facts.alternative
            and meet_all_tests.profile_id = facts.profile_id
    inner join journeys on meet_all_tests.journey = journeys.journey
    inner join profiles on meet_all_tests.profile_id = profiles.profile_id
    left join intents on meet_all_tests.profile_id = intents.profile_id
    left join product_stats on facts.product_id = product_stats.product_id
    cross join run
    where
        profiles.order_count >= journeys.minimum_order_count
        and (
            journeys.entry_within_seconds is null
            or {{ add_seconds(
                'facts.triggered_at', 'journeys.entry_within_seconds'
            ) }} > run.as_of
        )
    qualify
        facts.rank = min(facts.rank) over (
            partition by journeys.journey, facts.profile_id
        )
        and row_number() over (
            partition by
                journeys.journey,
                facts.profile_id,
                case
                    when journeys.re_eligible_after_seconds = 0 then facts.entry_key
                end
            order by
                facts.rank asc,
                facts.triggered_at desc,
                facts.entry_key asc,
                facts.alternative asc,
                facts.test asc
        ) = 1

)

select * from match_conditions
