-- One row: the moment this run looks from and the settings that bend what models hold.
with

current_run as (

    select * from {{ source('raw', 'current_run') }}

),

order_events as (

    select * from {{ ref('stg_events') }}
    where kind = 'order' and action = 'completed'

),

-- signs and names that stand for one currency alone
list_ways as (

    select
        written,
        min(currency) as currency
    from (
        select
            currency,
            {{ unnest_items(split_bars('written')) }} as written
        from {{ ref('currencies') }}
        where written <> ''
    ) as ways
    group by written
    having count(*) = 1

),

state_currencies as (

    select {{ currency_text(json_text('properties', '$.currency')) }} as currency
    from order_events

),

count_order_currencies as (

    select
        coalesce(list_ways.currency, upper(state_currencies.currency)) as currency,
        count(*) as order_count
    from state_currencies
    left join list_ways
        on {{ written_currency('state_currencies.currency') }} = list_ways.written
    group by 1

),

find_usual_currency as (

    select
        (
            {{ ordered_list('currency', 'order_count desc, currency asc') }}
        )[1] as currency
    from count_order_currencies
    where {{ is_currency('currency') }}

),

describe_run as (

    select
        current_run.as_of,
        current_run.is_newest,
        current_run.lookback_days,
        current_run.horizons_days,
        current_run.training_cutoff_at,
        current_run.is_matching,
        current_run.match_threshold,
        current_run.phone_region,
        current_run.identity_config_hash,
        current_run.run_seq,
        current_run.time_zone,
        coalesce(
            current_run.base_currency, find_usual_currency.currency, 'USD'
        ) as base_currency
    from current_run
    cross join find_usual_currency

)

select * from describe_run
