-- One row per former id that a profile may have had: the present one.
{{ config(materialized='view') }}

with

identity_map as (

    select * from {{ ref('identity_map') }}

),

derive_ids as (

    select
        {{ uuid_of("identifier_type || '␟' || identifier") }} as former_profile_id,
        profile_id
    from identity_map

),

drop_present as (

    select *
    from derive_ids
    where former_profile_id <> profile_id

)

select * from drop_present
