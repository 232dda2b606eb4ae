-- One row per profile, channel, message class, purpose and rule by which the person
-- does not want it there. Of those who are in a journey now, or whom a send waits to be
-- delivered to.
with

enrolled_profiles as (

    {{ enrolled_profiles() }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

contact_points as (

    select * from {{ ref('contact_points') }}

),

-- a topic of marketing is kept apart from marketing by that name
consents as (

    select
        *,
        {{ spelled("regexp_replace(purpose, '^marketing:', '')") }} as spelled_purpose
    from {{ ref('consents') }}

),

journey_purposes as (

    select distinct
        message_class,
        purpose,
        {{ spelled('purpose') }} as spelled_purpose
    from {{ ref('stg_journeys') }}
    where purpose is not null

),

message_classes as (

    {%- for message_class in ['marketing', 'transactional'] %}
    select '{{ message_class }}' as message_class
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

possible_purposes as (

    select
        message_class,
        purpose
    from journey_purposes
    union all
    select
        message_class,
        '' as purpose
    from message_classes

),

-- a no to all channels holds for each; a yes to all is no permission for any
newest_consents as (

    select
        consents.profile_id,
        channel_rules.channel,
        consents.spelled_purpose,
        consents.status,
        consents.message_id,
        consents.updated_at
    from consents
    inner join channel_rules
        on
            consents.channel = channel_rules.channel
            or (consents.channel = 'all' and consents.status = 'denied')
    qualify row_number() over (
        partition by
            consents.profile_id, channel_rules.channel, consents.spelled_purpose
        order by consents.updated_at desc, consents.status asc, consents.message_id asc
    ) = 1

),

-- who complained wants no more of it, from whichever address
unsubscribes as (

    select
        profile_events.profile_id,
        stg_message_events.channel,
        stg_message_events.interaction,
        stg_message_events.message_id,
        stg_message_events.effective_at
    from {{ ref('stg_message_events') }} as stg_message_events
    inner join {{ ref('profile_events') }} as profile_events
        on stg_message_events.message_id = profile_events.message_id
    where stg_message_events.interaction in ('unsubscribed', 'complained')

),

newest_unsubscribes as (

    select * from unsubscribes
    qualify row_number() over (
        partition by profile_id, channel
        order by effective_at desc, message_id desc
    ) = 1

),

newest_complaints as (

    select * from unsubscribes
    where interaction = 'complained'
    qualify row_number() over (
        partition by profile_id
        order by effective_at desc, message_id desc
    ) = 1

),

describe_channels as (

    select
        enrolled_profiles.profile_id,
        channel_rules.channel,
        message_classes.message_class,
        newest_consents.status as consent_status,
        newest_consents.message_id as consent_message_id,
        complaints.message_id as complaint_message_id,
        coalesce(
            contact_points.unsubscribe_message_id, unsubscribes.message_id
        ) as unsubscribe_message_id,
        contact_points.unsubscribe_message_id is not null
        or unsubscribes.message_id is not null and (
            newest_consents.updated_at is null
            or newest_consents.status <> 'granted'
            or newest_consents.updated_at <= unsubscribes.effective_at
        ) as is_unsubscribed,
        -- who complained is written to only where they said yes, of service too
        coalesce(newest_consents.status, '') not in ('granted', 'denied')
        and case message_classes.message_class
            when 'marketing'
                then channel_rules.needs_opt_in or complaints.message_id is not null
            else
                complaints.message_id is not null
                and coalesce(marketing_consents.status, '') <> 'granted'
        end as is_consent_missing
    from enrolled_profiles
    cross join channel_rules
    cross join message_classes
    left join contact_points
        on
            enrolled_profiles.profile_id = contact_points.profile_id
            and channel_rules.channel = contact_points.channel
    left join newest_consents
        on
            enrolled_profiles.profile_id = newest_consents.profile_id
            and channel_rules.channel = newest_consents.channel
            and message_classes.message_class = newest_consents.spelled_purpose
    left join newest_consents as marketing_consents
        on
            enrolled_profiles.profile_id = marketing_consents.profile_id
            and channel_rules.channel = marketing_consents.channel
            and marketing_consents.spelled_purpose = 'marketing'
    left join newest_unsubscribes as unsubscribes
        on
            enrolled_profiles.profile_id = unsubscribes.profile_id
            and channel_rules.channel = unsubscribes.channel
    left join newest_complaints as complaints
        on enrolled_profiles.profile_id = complaints.profile_id

),

find_purpose_consents as (

    select
        newest_consents.profile_id,
        newest_consents.channel,
        journey_purposes.message_class,
        journey_purposes.purpose,
        newest_consents.status,
        newest_consents.message_id
    from newest_consents
    inner join journey_purposes
        on newest_consents.spelled_purpose = journey_purposes.spelled_purpose

),

-- a row of the purpose * stands against messages of whichever, one of an empty purpose
-- against those that have none
apply_rules as (

    select
        profile_id,
        channel,
        message_class,
        '*' as purpose,
        {{ stated_rule('unsubscribed') }} as rule,
        unsubscribe_message_id as evidence_message_id
    from describe_channels
    where is_unsubscribed

    union all

    select
        profile_id,
        channel,
        message_class,
        '*' as purpose,
        {{ stated_rule('consent_denied') }} as rule,
        consent_message_id as evidence_message_id
    from describe_channels
    where consent_status = 'denied'

    union all

    select
        enrolled_profiles.profile_id,
        consents.channel,
        consents.message_class,
        consents.purpose,
        {{ stated_rule('consent_denied') }} as rule,
        consents.message_id as evidence_message_id
    from find_purpose_consents as consents
    inner join enrolled_profiles on consents.profile_id = enrolled_profiles.profile_id
    where consents.status = 'denied'

    union all

    select
        channels.profile_id,
        channels.channel,
        channels.message_class,
        journey_purposes.purpose,
        {{ stated_rule('consent_missing') }} as rule,
        channels.complaint_message_id as evidence_message_id
    from describe_channels as channels
    inner join possible_purposes as journey_purposes
        on channels.message_class = journey_purposes.message_class
    left join find_purpose_consents as consents
        on
            channels.profile_id = consents.profile_id
            and channels.channel = consents.channel
            and channels.message_class = consents.message_class
            and journey_purposes.purpose = consents.purpose
    where
        channels.is_consent_missing
        and coalesce(consents.status, '') not in ('granted', 'denied')

)

select * from apply_rules
