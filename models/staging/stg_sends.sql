-- One row per send that an earlier run recorded in the ledger, in whatever state, or of
-- which this warehouse, put back from an earlier time, knows nothing.
with

sends as (

    select * from {{ source('raw', 'sends') }}

),

name_fields as (

    select
        send_id,
        enrollment_id,
        journey,
        step,
        channel,
        profile_id,
        identifier_type,
        identifier,
        content_id,
        message_class,
        address,
        state,
        reason,
        as_of,
        waits_since,
        sent_at,
        is_in_doubt
    from sends

)

select * from name_fields
