-- One row per message, channel and purpose for which a permission was stated or taken
-- back. Doubt closes: what may be a no to something is one.
with

events as (

    select * from {{ ref('stg_events') }}

),

message_events as (

    select * from {{ ref('stg_message_events') }}

),

channels as (

    select channel from {{ ref('channel_rules') }}
    union all
    select 'all' as channel

),

channel_spellings as (

    select * from {{ spellings('channel') }}

),

status_spellings as (

    select * from {{ spellings('consent_status') }}

),

purpose_spellings as (

    select * from {{ spellings('consent_purpose') }}

),

consent_traits as (

    select
        field,
        {{ spelled('spelling') }} as spelled,
        meaning
    from {{ ref('spellings') }}
    where field in ('permitting_trait', 'denying_trait')

),

read_properties as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        action,
        implied_channel,
        {{ json_texts('properties', [
            '$.channel',
            '$.purpose',
            '$.status',
            '$.lawful_basis',
            '$.policy_version',
            '$.body',
        ]) }} as fields
    from events
    where kind = 'consent' and action <> 'preferences'

),

reply_words as (

    select * from {{ spellings('reply_word') }}

),

list_words as (

    select
        message_id,
        {{ unnest_items("split(" ~ words_in('fields[6]') ~ ", ' ')") }} as word
    from read_properties
    where action = 'reply'

),

find_refusals as (

    select distinct list_words.message_id
    from list_words
    inner join reply_words on list_words.word = reply_words.spelled

),

-- an answer by SMS is a no by any word that asks to stop, else a no or a yes by its
-- first word, or about something else
list_channel_updates as (

    select
        read_properties.message_id,
        anonymous_id,
        user_id,
        occurred_at,
        nullif(fields[1], '') as stated_channel,
        implied_channel,
        nullif(lower(trim(fields[2])), '') as stated_purpose,
        case
            when find_refusals.message_id is not null then 'denied'
            when action = 'reply' then split_part(trim(fields[6]), ' ', 1)
            when action in ('denied', 'granted') then action
            else fields[3]
        end as stated_status,
        action = 'reply' as is_reply,
        fields[4] as lawful_basis,
        fields[5] as policy_version
    from read_properties
    left join find_refusals
        on read_properties.message_id = find_refusals.message_id

),

list_opt_outs as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        unknown_channel as stated_channel,
        channel as implied_channel,
        'marketing' as stated_purpose,
        'denied' as stated_status,
        false as is_reply,
        'consent' as lawful_basis,
        cast(null as varchar) as policy_version
    from message_events
    where
        interaction = 'unsubscribed'
        or (interaction = 'complained' and unknown_channel is not null)

),

-- Segment states preferences in the context, other tools among the properties
find_preferences as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        coalesce(
            consent_preferences,
            {{ json_object_at('properties', '$.categoryPreferences') }}
        ) as preferences,
        properties,
        {{ json_text('properties', '$.policy_version') }} as policy_version
    from events
    where kind = 'consent' and action = 'preferences'

),

list_preferences as (

    select
        message_id,
        anonymous_id,
        user_id,
        occurred_at,
        preferences is null as is_property,
        unnest(json_keys(coalesce(preferences, properties))) as stated_purpose,
        unnest(json_extract_string(coalesce(preferences, properties), '$.*'))
            as stated_status,
        policy_version
    from find_preferences

),

keep_purposes as (

    select list_preferences.*
    from list_preferences
    left join purpose_spellings
        on {{ spelled('list_preferences.stated_purpose') }} = purpose_spellings.spelled
    where not list_preferences.is_property or purpose_spellings.meaning is not null

),

-- preferences that cannot be read are a no to marketing
list_preference_updates as (

    select
        find_preferences.message_id,
        find_preferences.anonymous_id,
        find_preferences.user_id,
        find_preferences.occurred_at,
        cast(null as varchar) as stated_channel,
        'all' as implied_channel,
        coalesce(keep_purposes.stated_purpose, 'marketing') as stated_purpose,
        keep_purposes.stated_status,
        false as is_reply,
        'consent' as lawful_basis,
        find_preferences.policy_version
    from find_preferences
    left join keep_purposes on find_preferences.message_id = keep_purposes.message_id
    where
        keep_purposes.message_id is not null
        or find_preferences.preferences is null
        or cast(find_preferences.preferences as varchar) = '{}'

),

-- the state of a person, which some tools send with every identify call
list_trait_keys as (

    select
        distinct_keys.keys,
        {{ json_pointer('distinct_keys.trait') }} as place,
        consent_traits.field = 'denying_trait' as is_denying,
        consent_traits.meaning as channel
    from (
        select
            keys,
            {{ unnest_items('keys') }} as trait
        from (
            select distinct json_keys(traits) as keys
            from events
            where type = 'identify'
        ) as key_lists
    ) as distinct_keys
    inner join consent_traits
        on {{ spelled('distinct_keys.trait') }} = consent_traits.spelled

),

read_consent_traits as (

    select
        events.message_id,
        events.anonymous_id,
        events.user_id,
        events.occurred_at,
        list_trait_keys.channel,
        list_trait_keys.is_denying,
        json_extract(events.traits, list_trait_keys.place) as stated,
        {{ spelled(
            "coalesce("
            ~ json_text('json_extract(events.traits, list_trait_keys.place)', '$.state')
            ~ ", "
            ~ json_text('json_extract(events.traits, list_trait_keys.place)', '$.status')
            ~ ", json_extract_string(events.traits, list_trait_keys.place))"
        ) }} as spelled
    from events
    inner join list_trait_keys on json_keys(events.traits) = list_trait_keys.keys
    where events.type = 'identify'

),

-- a trait takes a permission back and gives none
list_trait_denials as (

    select
        read_consent_traits.message_id,
        read_consent_traits.anonymous_id,
        read_consent_traits.user_id,
        read_consent_traits.occurred_at,
        read_consent_traits.channel as stated_channel,
        cast(null as varchar) as implied_channel,
        'marketing' as stated_purpose,
        'denied' as stated_status,
        false as is_reply,
        'consent' as lawful_basis,
        cast(null as varchar) as policy_version
    from read_consent_traits
    left join status_spellings
        on read_consent_traits.spelled = status_spellings.spelled
    where
        case
            when json_type(read_consent_traits.stated) = 'NULL' then false
            when read_consent_traits.is_denying
                then read_consent_traits.spelled
                not in ('', 'false', 'no', 'n', '0', 'off', 'never', 'null')
            else status_spellings.meaning = 'denied'
        end

),

-- Segment stamps what was chosen on every message; a no counts on each
list_stamped_denials as (

    select
        stamped.message_id,
        stamped.anonymous_id,
        stamped.user_id,
        stamped.occurred_at,
        cast(null as varchar) as stated_channel,
        'all' as implied_channel,
        'marketing' as stated_purpose,
        'denied' as stated_status,
        false as is_reply,
        'consent' as lawful_basis,
        cast(null as varchar) as policy_version
    from (
        select
            message_id,
            anonymous_id,
            user_id,
            occurred_at,
            unnest(json_keys(consent_preferences)) as stated_purpose,
            unnest(json_extract_string(consent_preferences, '$.*')) as stated_status
        from events
        where
            consent_preferences is not null
            and action is distinct from 'preferences'
    ) as stamped
    inner join purpose_spellings
        on {{ spelled('stamped.stated_purpose') }} = purpose_spellings.spelled
    left join status_spellings
        on {{ spelled('stamped.stated_status') }} = status_spellings.spelled
    where
        purpose_spellings.meaning = 'marketing'
        and coalesce(status_spellings.meaning, 'denied') = 'denied'
    group by
        stamped.message_id, stamped.anonymous_id, stamped.user_id, stamped.occurred_at

),

name_updates as (

    select
        updates.message_id,
        updates.anonymous_id,
        updates.user_id,
        updates.occurred_at,
        case
            when updates.stated_channel is null then updates.implied_channel
            when
                channel_spellings.meaning = 'all'
                and coalesce(status_spellings.meaning, 'denied') = 'denied'
                then null
            else channel_spellings.meaning
        end as channel,
        coalesce(
            purpose_spellings.meaning,
            lower(trim(updates.stated_purpose)),
            'marketing'
        ) as purpose,
        purpose_spellings.meaning is null
        and coalesce(lower(trim(updates.stated_purpose)) not like 'marketing:_%', false)
            as is_purpose_unknown,
        coalesce(status_spellings.meaning, 'denied') as status,
        updates.lawful_basis,
        updates.policy_version,
        {{ unread([
            (
                'channel',
                "coalesce(updates.stated_channel, updates.implied_channel, '(none)')",
                'coalesce(channel_spellings.meaning, updates.implied_channel)',
            ),
            (
                'consent_status',
                "coalesce(nullif(updates.stated_status, ''), '(none)')",
                'status_spellings.meaning',
            ),
            (
                'consent_purpose',
                "case when updates.stated_purpose not like 'marketing:_%' "
                ~ 'then updates.stated_purpose end',
                'purpose_spellings.meaning',
            ),
        ]) }} as unread
    from (
        select * from list_channel_updates
        union all
        select * from list_opt_outs
        union all
        select * from list_preference_updates
        union all
        select * from list_trait_denials
        union all
        select * from list_stamped_denials
    ) as updates
    left join channel_spellings
        on {{ spelled('updates.stated_channel') }} = channel_spellings.spelled
    left join status_spellings
        on {{ spelled('updates.stated_status') }} = status_spellings.spelled
    left join purpose_spellings
        on {{ spelled('updates.stated_purpose') }} = purpose_spellings.spelled
    where not updates.is_reply or status_spellings.meaning is not null

),

-- a no to a channel that is not known is one to every channel, and a no to a purpose
-- that is not known one to marketing; a yes to either is none
spread_doubt as (

    select
        name_updates.message_id,
        name_updates.anonymous_id,
        name_updates.user_id,
        name_updates.occurred_at,
        channels.channel,
        {{ unnest_items(
            "case when name_updates.is_purpose_unknown and status = 'denied' "
            ~ "then [name_updates.purpose, 'marketing'] "
            ~ 'else [name_updates.purpose] end'
        ) }} as purpose,
        name_updates.status,
        name_updates.lawful_basis,
        name_updates.policy_version,
        name_updates.unread
    from name_updates
    left join channels
        on
            name_updates.channel = channels.channel
            or (name_updates.channel is null and name_updates.status = 'denied')

)

select * from spread_doubt
