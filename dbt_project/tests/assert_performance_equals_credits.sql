-- Every performance table is the same money, cut another way.
{{ config(meta={'dagster': {'ref': {'name': 'channel_performance'}}}) }}
{%- set performances = [
    'channel_performance', 'campaign_performance', 'segment_performance',
    'step_performance', 'path_performance', 'profile_performance',
] %}

with

credits as (

    select * from {{ ref('credits') }}

),

sum_credits as (

    select
        attribution_model,
        sum(credit) as conversion_count,
        coalesce(sum(revenue_amount), 0) as revenue_amount
    from credits
    group by attribution_model

),

sum_performances as (

    {%- for performance in performances %}
    select
        '{{ performance }}' as performance,
        attribution_model,
        sum(conversion_count) as conversion_count,
        coalesce(sum(revenue_amount), 0) as revenue_amount
    from {{ ref(performance) }}
    group by attribution_model
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}

),

find_differences as (

    select
        sum_performances.performance,
        sum_credits.attribution_model
    from sum_credits
    full outer join sum_performances
        on sum_credits.attribution_model = sum_performances.attribution_model
    where
        sum_credits.conversion_count is distinct from sum_performances.conversion_count
        or sum_credits.revenue_amount is distinct from sum_performances.revenue_amount

)

select * from find_differences
