-- One row: the moment this run looks from and the settings that bend what models hold.
with

current_run as (

    select * from {{ source('raw', 'current_run') }}

),

events as (

    select * from {{ source('raw', 'events') }}

),

count_order_currencies as (

    select
        upper({{ json_text('events.properties', '$.currency') }}) as currency,
        count(*) as order_count
    from events
    cross join current_run
    where
        events.event = 'Order Completed'
        and events.received_at <= current_run.as_of
    group by 1

),

find_usual_currency as (

    select
        (
            {{ ordered_list('currency', 'order_count desc, currency asc') }}
        )[1] as currency
    from count_order_currencies
    where currency is not null

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
        current_run.evidence_epoch,
        coalesce(
            current_run.base_currency, find_usual_currency.currency, 'USD'
        ) as base_currency
    from current_run
    cross join find_usual_currency

)

select * from describe_run
