-- One row per mistake that sets a journey aside until it is mended.
{{ config(materialized='view') }}

with

journey_problems as (

    select * from {{ source('raw', 'journey_problems') }}

),

name_fields as (

    select
        journey,
        file,
        line,
        field,
        reason,
        code,
        witness
    from journey_problems

)

select * from name_fields
