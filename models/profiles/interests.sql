-- One row per profile and category, brand or product that interests it: how much of its
-- interest that one holds. Who has shown little is mostly taken for the average.
{%- set kinds = {'category': 'category', 'brand': 'brand', 'product': 'product_id'} %}
with

product_interactions as (

    select * from {{ ref('product_interactions') }}

),

weights as (

    select * from {{ ref('affinity_weights') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

weigh_interactions as (

    select
        product_interactions.*,
        cast(
            weights.weight * {{ decay(
                'product_interactions.occurred_at',
                'run.as_of',
                'rules.affinity_half_life_days',
            ) }} as decimal(18, 9)
        ) as interest
    from product_interactions
    inner join weights on product_interactions.action = weights.action
    cross join run
    cross join rules

),

sum_by_profile as (

    {%- for kind, column in kinds.items() %}
    select
        profile_id,
        '{{ kind }}' as kind,
        {{ column }} as value,
        sum(interest) as interest,
        count(*) as interaction_count,
        max(occurred_at) as last_interaction_at
    from weigh_interactions
    where {{ column }} is not null
    group by profile_id, {{ column }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

sum_over_all as (

    select
        kind,
        value,
        cast(sum(interest) as double)
        / nullif(cast(sum(sum(interest)) over (partition by kind) as double), 0)
            as average_share
    from sum_by_profile
    group by kind, value

),

shrink_to_average as (

    select
        sums.profile_id,
        sums.kind,
        sums.value,
        cast(
            (
                cast(sums.interest as double)
                + cast(rules.affinity_prior_weight as double)
                * coalesce(sum_over_all.average_share, 0)
            ) / nullif(
                cast(
                    sum(sums.interest) over (partition by sums.profile_id, sums.kind)
                    as double
                ) + cast(rules.affinity_prior_weight as double),
                0
            ) as double
        ) as affinity,
        sums.interaction_count,
        sums.last_interaction_at
    from sum_by_profile as sums
    inner join sum_over_all
        on sums.kind = sum_over_all.kind and sums.value = sum_over_all.value
    cross join rules

)

select * from shrink_to_average
