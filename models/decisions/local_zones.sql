-- One row per person who began a journey and time zone that their clock may show: the
-- one that is known of them, else those of their country, else the shop's.
with

run as (

    select * from {{ ref('stg_run') }}

),

addressees as (

    select distinct profile_id from {{ ref('enrollment_progress') }}

),

profiles as (

    select * from {{ ref('profiles') }}
    where profile_id in (select addressees.profile_id from addressees)

),

time_zones as (

    select * from {{ ref('time_zones') }}

),

countries as (

    select * from {{ ref('countries') }}

),

country_names as (

    {{ country_names() }}

),

list_zones as (

    select
        profiles.profile_id,
        time_zones.time_zone,
        1 as preference
    from profiles
    inner join time_zones on profiles.timezone = time_zones.time_zone

    union all

    select
        profiles.profile_id,
        time_zones.time_zone,
        2 as preference
    from profiles
    inner join country_names
        on {{ spelled('profiles.country') }} = country_names.spelled
    inner join time_zones on country_names.country = time_zones.country

    union all

    -- a calling code may be that of several countries
    select
        profiles.profile_id,
        time_zones.time_zone,
        3 as preference
    from profiles
    inner join countries on profiles.phone like '+' || countries.calling_code || '%'
    inner join time_zones on countries.country = time_zones.country

    union all

    select
        addressees.profile_id,
        run.time_zone,
        4 as preference
    from addressees
    cross join run

),

keep_best as (

    select
        list_zones.profile_id,
        list_zones.time_zone,
        -- of several, the shop's own is the one to speak of
        row_number() over (
            partition by list_zones.profile_id, list_zones.preference
            order by
                case when list_zones.time_zone = run.time_zone then 0 else 1 end asc,
                list_zones.time_zone asc
        ) = 1 as is_likeliest
    from list_zones
    cross join run
    qualify list_zones.preference = min(list_zones.preference) over (
        partition by list_zones.profile_id
    )

)

select * from keep_best
