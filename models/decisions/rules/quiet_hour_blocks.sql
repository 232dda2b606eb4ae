-- One row per possible send for which it is, or may be, night where the person is, by
-- the hours of the channel or by a law of a place where the person may be.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

local_zones as (

    select * from {{ ref('local_zones') }}

),

legal_rules as (

    select * from {{ ref('legal_rules') }}

),

profiles as (

    select * from {{ ref('profiles') }}
    where profile_id in (
        select possible_sends.profile_id
        from possible_sends
        inner join legal_rules on possible_sends.channel = legal_rules.channel
    )

),

regions as (

    select * from {{ ref('regions') }}

),

country_names as (

    {{ country_names() }}

),

countries as (

    select * from {{ ref('countries') }}

),

time_zones as (

    select * from {{ ref('time_zones') }}

),

read_local_clocks as (

    select
        possible_sends.send_id,
        possible_sends.profile_id,
        possible_sends.channel,
        possible_sends.as_of,
        local_zones.time_zone,
        {{ local_time('possible_sends.as_of', 'local_zones.time_zone') }} as local_at,
        extract(hour from {{ local_time(
            'possible_sends.as_of', 'local_zones.time_zone'
        ) }}) as local_hour,
        channel_rules.quiet_from_hour,
        channel_rules.quiet_until_hour
    from possible_sends
    inner join channel_rules on possible_sends.channel = channel_rules.channel
    inner join local_zones on possible_sends.profile_id = local_zones.profile_id

),

-- each sign of a country counts; a clock of no country is a sign of any
list_countries as (

    select
        local_zones.profile_id,
        time_zones.country
    from local_zones
    inner join profiles on local_zones.profile_id = profiles.profile_id
    left join time_zones on local_zones.time_zone = time_zones.time_zone

    union

    select
        profiles.profile_id,
        country_names.country
    from profiles
    inner join country_names
        on {{ spelled('profiles.country') }} = country_names.spelled

    union

    select
        profiles.profile_id,
        countries.country
    from profiles
    inner join countries on profiles.phone like '+' || countries.calling_code || '%'

),

list_regions as (

    select
        profiles.profile_id,
        regions.region
    from profiles
    inner join regions
        on
            {{ spelled('profiles.region') }} in (
                {{ spelled('regions.region_name') }},
                {{ spelled('regions.region') }},
                lower(substr(regions.region, 4))
            )

),

-- where no part of the country is known, it may be any
list_jurisdictions as (

    select distinct
        list_countries.profile_id,
        legal_rules.jurisdiction
    from list_countries
    inner join legal_rules
        on coalesce(list_countries.country, left(legal_rules.jurisdiction, 2))
            = left(legal_rules.jurisdiction, 2)
    left join list_regions
        on
            list_countries.profile_id = list_regions.profile_id
            and left(list_regions.region, 2) = left(legal_rules.jurisdiction, 2)
    where
        list_regions.region is null
        or legal_rules.jurisdiction in (
            list_regions.region, left(list_regions.region, 2)
        )

),

find_unlawful_hours as (

    select
        read_local_clocks.send_id,
        read_local_clocks.time_zone,
        read_local_clocks.local_hour,
        legal_rules.jurisdiction,
        legal_rules.value
    from read_local_clocks
    inner join list_jurisdictions
        on read_local_clocks.profile_id = list_jurisdictions.profile_id
    inner join legal_rules
        on
            list_jurisdictions.jurisdiction = legal_rules.jurisdiction
            and read_local_clocks.channel = legal_rules.channel
    where
        (
            legal_rules.rule = 'sending_hours'
            or (
                legal_rules.rule = 'sunday_sending_hours'
                and {{ is_sunday('read_local_clocks.local_at') }}
            )
        )
        and read_local_clocks.as_of >= coalesce(
            legal_rules.valid_from, read_local_clocks.as_of
        )
        and (
            legal_rules.valid_to is null
            or read_local_clocks.as_of < legal_rules.valid_to
        )
        and (
            read_local_clocks.local_hour < cast(left(legal_rules.value, 2) as integer)
            or read_local_clocks.local_hour
            >= cast(right(legal_rules.value, 2) as integer)
        )

),

find_nights as (

    select
        send_id,
        time_zone,
        local_hour,
        'silent from ' || cast(quiet_from_hour as varchar)
        || ' until ' || cast(quiet_until_hour as varchar) as hours
    from read_local_clocks
    where {{ is_silent('local_hour') }}

    union all

    select
        send_id,
        time_zone,
        local_hour,
        jurisdiction || ' allows ' || value as hours
    from find_unlawful_hours

),

state_blocks as (

    select
        send_id,
        {{ stated_rule('quiet_hours') }} as rule,
        time_zone || ', hour ' || cast(local_hour as varchar) || ', ' || hours
            as reason_detail
    from find_nights
    qualify row_number() over (
        partition by send_id order by time_zone asc, hours desc
    ) = 1

)

select * from state_blocks
