-- One row per audience that marketers keep, also of those that a mistake sets aside.
{{ config(materialized='view') }}

with

audiences as (

    select * from {{ source('raw', 'audiences') }}

),

name_fields as (

    select
        audience,
        owner,
        description,
        mistake
    from audiences

)

select * from name_fields
