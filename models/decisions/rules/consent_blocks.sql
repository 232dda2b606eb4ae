-- One row per profile, channel, message class and rule by which the person does not
-- want it there. Of those who are in a journey now, or whom a send waits to be
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

consents as (

    select * from {{ ref('consents') }}

),

message_classes as (

    {%- for message_class in ['marketing', 'transactional'] %}
    select '{{ message_class }}' as message_class
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

-- a no to all channels holds for each; a yes to all is no permission for any
newest_consents as (

    select
        consents.profile_id,
        channel_rules.channel,
        consents.purpose as message_class,
        consents.status,
        consents.message_id,
        consents.updated_at
    from consents
    inner join message_classes on consents.purpose = message_classes.message_class
    inner join channel_rules
        on
            consents.channel = channel_rules.channel
            or (consents.channel = 'all' and consents.status = 'denied')
    qualify row_number() over (
        partition by consents.profile_id, channel_rules.channel, consents.purpose
        order by consents.updated_at desc, consents.status asc, consents.message_id asc
    ) = 1

),

-- who complained wants no more of it, from whichever address
unsubscribes as (

    select
        profile_events.profile_id,
        stg_message_events.channel,
        stg_message_events.message_id,
        stg_message_events.effective_at
    from {{ ref('stg_message_events') }} as stg_message_events
    inner join {{ ref('profile_events') }} as profile_events
        on stg_message_events.message_id = profile_events.message_id
    where stg_message_events.interaction in ('unsubscribed', 'complained')
    qualify row_number() over (
        partition by profile_events.profile_id, stg_message_events.channel
        order by
            stg_message_events.effective_at desc,
            stg_message_events.message_id desc
    ) = 1

),

describe_channels as (

    select
        enrolled_profiles.profile_id,
        channel_rules.channel,
        message_classes.message_class,
        channel_rules.needs_opt_in,
        newest_consents.status as consent_status,
        newest_consents.message_id as consent_message_id,
        coalesce(
            contact_points.unsubscribe_message_id, unsubscribes.message_id
        ) as unsubscribe_message_id,
        contact_points.unsubscribe_message_id is not null
        or unsubscribes.message_id is not null and (
            newest_consents.updated_at is null
            or newest_consents.status <> 'granted'
            or newest_consents.updated_at <= unsubscribes.effective_at
        ) as is_unsubscribed
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
            and message_classes.message_class = newest_consents.message_class
    left join unsubscribes
        on
            enrolled_profiles.profile_id = unsubscribes.profile_id
            and channel_rules.channel = unsubscribes.channel

),

apply_rules as (

    select
        profile_id,
        channel,
        message_class,
        {{ stated_rule('unsubscribed') }} as rule,
        unsubscribe_message_id as evidence_message_id
    from describe_channels
    where is_unsubscribed

    union all

    select
        profile_id,
        channel,
        message_class,
        {{ stated_rule('consent_denied') }} as rule,
        consent_message_id as evidence_message_id
    from describe_channels
    where consent_status = 'denied'

    union all

    select
        profile_id,
        channel,
        message_class,
        {{ stated_rule('consent_missing') }} as rule,
        cast(null as varchar) as evidence_message_id
    from describe_channels
    where needs_opt_in and coalesce(consent_status, '') not in ('granted', 'denied')

)

select * from apply_rules
