-- One row per order: the first message that it was completed.
with

order_events as (

    select * from {{ ref('stg_order_events') }}

),

first_completions as (

    select * from order_events
    where action = 'completed'
    qualify row_number() over (
        partition by order_id order by occurred_at asc, message_id asc
    ) = 1

)

select * from first_completions
