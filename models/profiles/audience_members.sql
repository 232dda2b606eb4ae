-- One row per audience and person in it, which is who meets all of its rules.
with

conditions as (

    select * from {{ ref('audience_conditions') }}

),

matches as (

    select * from {{ ref('audience_matches') }}

),

count_rules as (

    select
        audience,
        count(*) as rule_count
    from conditions
    group by audience

),

count_matches as (

    select
        audience,
        profile_id,
        count(*) as match_count
    from matches
    group by audience, profile_id

),

meet_all_rules as (

    select
        count_matches.audience,
        count_matches.profile_id
    from count_matches
    inner join count_rules
        on
            count_matches.audience = count_rules.audience
            and count_matches.match_count = count_rules.rule_count

)

select * from meet_all_rules
