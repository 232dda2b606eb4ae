-- One row per condition of a journey or an audience, way in which it holds and test:
-- all tests of a way must hold but for those that are negated, of which none may.
{{ config(materialized='view') }}

with

conditions as (

    select * from {{ source('raw', 'conditions') }}

),

name_fields as (

    select
        journey,
        audience,
        place,
        step,
        alternative,
        test,
        is_negated,
        kind,
        name,
        names,
        property_tests,
        minimum_count,
        within_seconds,
        wait_seconds,
        minimum_value,
        maximum_value,
        is_yearly,
        shift_days,
        begins_at
    from conditions

)

select * from name_fields
