-- What a profile's affinities of one kind leave of 1 is for what it does not know yet.
with

sum_affinities as (

    select
        profile_id,
        kind,
        min(affinity) as lowest,
        sum(affinity) as total
    from {{ ref('interests') }}
    group by profile_id, kind

)

select * from sum_affinities
where lowest < 0 or total > 1.000001
