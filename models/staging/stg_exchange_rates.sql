-- One row per currency that can be exchanged: what one unit is in the base currency.
with

exchange_rates as (

    select * from {{ ref('exchange_rates') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

tidy_rates as (

    select
        upper(trim(currency)) as currency,
        upper(trim(base_currency)) as base_currency,
        rate
    from exchange_rates
    where rate > 0

),

-- a rate as it was given goes before one that is turned round
list_rates as (

    select
        base_currency as currency,
        cast(1 as decimal(22, 14)) as rate,
        0 as preference
    from run
    union all
    select
        tidy_rates.currency,
        tidy_rates.rate,
        1 as preference
    from tidy_rates
    inner join run on tidy_rates.base_currency = run.base_currency
    union all
    select
        tidy_rates.base_currency as currency,
        try_cast(1 / tidy_rates.rate as decimal(22, 14)) as rate,
        2 as preference
    from tidy_rates
    inner join run on tidy_rates.currency = run.base_currency

),

choose_rates as (

    select
        currency,
        rate
    from list_rates
    where rate > 0
    qualify row_number() over (
        partition by currency order by preference asc, rate asc
    ) = 1

)

select * from choose_rates
