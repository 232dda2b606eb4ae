-- One row per path text and attribution model: the sum of its credits.
with

credits as (

    select * from {{ ref('credits') }}

),

paths as (

    select * from {{ ref('paths') }}

),

name_paths as (

    select
        credits.*,
        coalesce(paths.path, 'none') as path
    from credits
    left join paths
        on
            credits.conversion_id = paths.path_id
            and paths.path_kind = 'path_to_conversion'

),

count_failures as (

    select
        path,
        count(*) as non_conversion_count
    from paths
    where path_kind = 'path_to_non_conversion'
    group by path

),

sum_credits as (

    select
        path,
        attribution_model,
        count(touchpoint_id) as credit_count,
        cast(sum(credit) as decimal(38, 9)) as conversion_count,
        cast(sum(revenue_amount) as decimal(38, 2)) as revenue_amount
    from name_paths
    group by path, attribution_model

),

add_failures as (

    select
        sum_credits.path,
        sum_credits.attribution_model,
        sum_credits.credit_count,
        sum_credits.conversion_count,
        sum_credits.revenue_amount,
        coalesce(count_failures.non_conversion_count, 0) as non_conversion_count
    from sum_credits
    left join count_failures on sum_credits.path = count_failures.path

)

select * from add_failures
