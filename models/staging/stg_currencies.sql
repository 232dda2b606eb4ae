-- One row per sign or name by which currencies are written instead of a code: the one
-- that is meant; null where several may be and the base currency is none of them.
with

currencies as (

    select * from {{ ref('currencies') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

list_ways as (

    select
        currency,
        {{ unnest_items(split_bars('written')) }} as written
    from currencies
    where written <> ''

),

choose_currencies as (

    select
        list_ways.written,
        case
            when count(*) = 1 then min(list_ways.currency)
            else max(
                case
                    when list_ways.currency = run.base_currency
                        then list_ways.currency
                end
            )
        end as currency,
        count(*) > 1 as is_shared
    from list_ways
    cross join run
    group by list_ways.written

)

select * from choose_currencies
