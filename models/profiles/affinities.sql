-- One row per profile and category: how much of its interest the category holds.
with

interests as (

    select * from {{ ref('interests') }}

),

keep_kind as (

    select
        profile_id,
        value as category,
        affinity,
        interaction_count,
        last_interaction_at
    from interests
    where kind = 'category'

)

select * from keep_kind
