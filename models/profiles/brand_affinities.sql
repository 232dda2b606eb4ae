-- One row per profile and brand: how much of its interest the brand holds.
with

interests as (

    select * from {{ ref('interests') }}

),

keep_kind as (

    select
        profile_id,
        value as brand,
        affinity,
        interaction_count,
        last_interaction_at
    from interests
    where kind = 'brand'

)

select * from keep_kind
