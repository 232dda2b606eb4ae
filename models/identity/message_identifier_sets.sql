-- One row per message that names somebody: which set of identifiers it carries.
with

message_identifiers as (

    select * from {{ ref('stg_identifiers') }}

),

combine_identifiers as (

    select
        message_id,
        min(occurred_at) as occurred_at,
        {{ identifier_set('identifier_type', 'identifier') }} as identifier_set_id
    from message_identifiers
    group by message_id

)

select * from combine_identifiers
