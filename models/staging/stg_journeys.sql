-- One row per journey that marketers keep.
with

journeys as (

    select * from {{ source('raw', 'journeys') }}

),

name_fields as (

    select
        journey,
        version,
        definition_hash,
        description,
        message_class,
        purpose,
        priority,
        holdout_rate,
        minimum_order_count,
        entry_within_seconds,
        entry_cap,
        entry_cap_seconds,
        journey_group,
        group_cap,
        exits_on_order,
        exits_on_misstep,
        exits_on_resolved,
        exits_on_cart_emptied,
        exits_on_audience_left,
        expires_after_seconds,
        re_eligible_after_seconds,
        step_count
    from journeys

)

select * from name_fields
