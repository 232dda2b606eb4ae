-- One row per message, channel and purpose for which a permission was stated or taken
-- back. Doubt closes: what may be a no to something is one.
{{ config(materialized='by_message') }}

with

events as (

    select * from {{ ref('stg_events') }}
    where {{ is_new_message() }}

),

message_events as (

    select * from {{ ref('stg_message_events') }}
    where {{ is_of_new_message() }}

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

consent_values as (

    select * from {{ ref('stg_consent_values') }}
    where {{ is_of_new_message() }}

),

reply_words as (

    select
        {{ words_in('spelling') }} as words,
        {{ spelled('spelling') }} as spelled
    from {{ ref('spellings') }}
    where field = 'reply_word'

),

subscription_groups as (

    select
        message_id,
        min(value) as subscription_group
    from consent_values
    where subject = 'subscription_group'
    group by message_id

),

-- a subscription that has ended was one to a product, where the event names what was
-- bought and neither a channel nor a list
find_product_subscriptions as (

    select distinct keys.message_id
    from (
        select
            message_id,
            {{ unnest_items('json_keys(properties)') }} as key
        from events
        where
            action = 'subscription_ended'
            and {{ json_text('properties', '$.channel') }} is null
    ) as keys
    inner join {{ spellings('product_subscription') }} as product_keys
        on {{ spelled('keys.key') }} = product_keys.spelled
    where
        keys.message_id not in (
            select subscription_groups.message_id from subscription_groups
        )

),

read_properties as (

    select
        message_id,
        action,
        implied_channel,
        {{ json_texts('properties', [
            '$.channel',
            '$.purpose',
            '$.status',
            '$.lawful_basis',
            '$.policy_version',
        ]) }} as fields,
        {{ unnest_items(
            "case json_type(properties, '$.channel') "
            ~ "when 'ARRAY' then coalesce("
            ~ "nullif(json_extract_string(properties, '$.channel[*]'), []), [null]) "
            ~ "when 'OBJECT' then [null] "
            ~ "else [" ~ json_text('properties', '$.channel') ~ "] end"
        ) }} as stated_channel,
        case
            when json_type(properties, '$.status') not in ('ARRAY', 'OBJECT')
                then {{ json_text('properties', '$.status') }}
        end as stated_status
    from events
    where
        kind = 'consent'
        and action <> 'preferences'
        and message_id not in (
            select products.message_id from find_product_subscriptions as products
        )

),

-- an answer by SMS is a no by any word that asks to stop, else a no or a yes by its
-- first word, or about something else; one that cannot be read may be a no
read_answers as (

    select
        answers.message_id,
        case
            when
                bool_or(reply_words.words is not null)
                or bool_or(status_spellings.meaning = 'denied')
                then 'denied'
            else min(status_spellings.meaning)
        end as status
    from consent_values as answers
    left join reply_words
        on
            ' ' || {{ words_in('answers.value') }} || ' '
            like '% ' || reply_words.words || ' %'
            or {{ spelled('answers.value') }} = reply_words.spelled
    left join status_spellings
        on
            split_part(trim({{ words_in('answers.value') }}), ' ', 1)
            = status_spellings.spelled
    where answers.subject = 'answer'
    group by answers.message_id

),

list_stated_values as (

    select distinct message_id
    from consent_values
    where place = 'consent' and status is not null

),

list_event_updates as (

    select
        read_properties.message_id,
        nullif(read_properties.stated_channel, '') as stated_channel,
        read_properties.implied_channel,
        nullif(lower(trim(fields[2])), '') as stated_purpose,
        case read_properties.action
            when 'reply' then read_answers.status
            when 'subscription_ended' then 'denied'
            when 'denied' then 'denied'
            when 'granted' then 'granted'
            else read_properties.stated_status
        end as stated_status,
        fields[4] as lawful_basis,
        fields[5] as policy_version,
        subscription_groups.subscription_group
    from read_properties
    left join read_answers on read_properties.message_id = read_answers.message_id
    left join list_stated_values as stated
        on read_properties.message_id = stated.message_id
    left join subscription_groups
        on read_properties.message_id = subscription_groups.message_id
    where
        case
            when read_properties.action = 'reply'
                then read_answers.message_id is null or read_answers.status is not null
            when read_properties.action in ('channel', 'subscription')
                then
                    read_properties.stated_status is not null
                    or stated.message_id is null
            else true
        end

),

-- a trait takes a permission back and gives none
list_value_updates as (

    select
        consent_values.message_id,
        coalesce(
            consent_values.channel, nullif(read_properties.stated_channel, '')
        ) as stated_channel,
        case
            when
                consent_values.channel is null
                and consent_values.place in ('consent', 'reply')
                then events.implied_channel
        end as implied_channel,
        -- what stands beside a purpose is about that
        case
            when consent_values.purpose = 'marketing' and not contains(path, '.')
                then nullif(lower(trim(fields[2])), '')
            else consent_values.purpose
        end as stated_purpose,
        consent_values.status as stated_status,
        'consent' as lawful_basis,
        fields[5] as policy_version,
        subscription_groups.subscription_group
    from consent_values
    inner join events on consent_values.message_id = events.message_id
    left join read_properties
        on
            consent_values.message_id = read_properties.message_id
            and consent_values.place in ('consent', 'reply')
    left join subscription_groups
        on
            consent_values.message_id = subscription_groups.message_id
            and consent_values.place in ('consent', 'reply')
    where
        (
            consent_values.status = 'denied'
            or (
                consent_values.status = 'granted'
                and consent_values.subject = 'permission'
                and consent_values.place = 'consent'
                and consent_values.channel is not null
                and events.action in ('channel', 'subscription', 'granted')
            )
        )
        and (
            consent_values.place <> 'consent'
            or consent_values.message_id not in (
                select products.message_id from find_product_subscriptions as products
            )
        )

),

list_opt_outs as (

    select
        message_events.message_id,
        coalesce(message_events.unknown_channel, message_events.channel)
            as stated_channel,
        events.implied_channel,
        'marketing' as stated_purpose,
        'denied' as stated_status,
        'consent' as lawful_basis,
        cast(null as varchar) as policy_version,
        subscription_groups.subscription_group
    from message_events
    inner join events on message_events.message_id = events.message_id
    left join subscription_groups
        on message_events.message_id = subscription_groups.message_id
    where
        message_events.interaction = 'unsubscribed'
        or message_events.is_refusal
        or (
            message_events.interaction = 'complained'
            and message_events.unknown_channel is not null
        )

),

-- Segment states preferences in the context, other tools among the properties
find_preferences as (

    select
        message_id,
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
        cast(null as varchar) as stated_channel,
        'all' as implied_channel,
        coalesce(keep_purposes.stated_purpose, 'marketing') as stated_purpose,
        keep_purposes.stated_status,
        'consent' as lawful_basis,
        find_preferences.policy_version,
        cast(null as varchar) as subscription_group
    from find_preferences
    left join keep_purposes on find_preferences.message_id = keep_purposes.message_id
    where
        keep_purposes.message_id is not null
        or find_preferences.preferences is null
        or cast(find_preferences.preferences as varchar) = '{}'

),

-- what was chosen is stamped on every message; a no counts on each
list_stamps as (

    select
        message_id,
        unnest(json_keys(consent_preferences)) as stated_purpose,
        unnest(json_extract_string(consent_preferences, '$.*')) as stated_status
    from events
    where
        consent_preferences is not null
        and action is distinct from 'preferences'
    union all
    select
        message_id,
        unnest(json_extract_string(try_cast(denied_consents as json), '$[*]'))
            as stated_purpose,
        'denied' as stated_status
    from events
    where denied_consents is not null

),

list_stamped_denials as (

    select distinct
        list_stamps.message_id,
        cast(null as varchar) as stated_channel,
        'all' as implied_channel,
        'marketing' as stated_purpose,
        'denied' as stated_status,
        'consent' as lawful_basis,
        cast(null as varchar) as policy_version,
        cast(null as varchar) as subscription_group
    from list_stamps
    inner join purpose_spellings
        on {{ spelled('list_stamps.stated_purpose') }} = purpose_spellings.spelled
    left join status_spellings
        on {{ spelled('list_stamps.stated_status') }} = status_spellings.spelled
    where
        purpose_spellings.meaning = 'marketing'
        and coalesce(status_spellings.meaning, 'denied') = 'denied'

),

name_updates as (

    select
        updates.message_id,
        case
            when updates.stated_channel is null then updates.implied_channel
            when
                channel_spellings.meaning = 'all'
                and coalesce(status_spellings.meaning, 'denied') = 'denied'
                then null
            else channel_spellings.meaning
        end as channel,
        updates.implied_channel,
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
        updates.subscription_group,
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
        select * from list_event_updates
        union all
        select * from list_value_updates
        union all
        select * from list_opt_outs
        union all
        select * from list_preference_updates
        union all
        select * from list_stamped_denials
    ) as updates
    left join channel_spellings
        on {{ spelled('updates.stated_channel') }} = channel_spellings.spelled
    left join status_spellings
        on {{ spelled('updates.stated_status') }} = status_spellings.spelled
    left join purpose_spellings
        on {{ spelled('updates.stated_purpose') }} = purpose_spellings.spelled

),

-- a no to a channel that is not known is one to every channel, and to another one than
-- the event is named for one to both; a yes to what is not known is none
spread_doubt as (

    select
        name_updates.message_id,
        channels.channel,
        name_updates.purpose,
        name_updates.is_purpose_unknown,
        name_updates.status,
        name_updates.lawful_basis,
        name_updates.policy_version,
        name_updates.subscription_group,
        name_updates.unread
    from name_updates
    left join channels
        on
            name_updates.channel = channels.channel
            or (
                name_updates.status = 'denied'
                and (
                    name_updates.channel is null
                    or name_updates.implied_channel = channels.channel
                )
            )

),

-- of what one message says twice, the no holds
keep_noes as (

    select * from spread_doubt
    qualify row_number() over (
        partition by message_id, channel, purpose
        order by
            status asc,
            subscription_group asc nulls first,
            unread is null asc,
            lawful_basis asc nulls last,
            policy_version asc nulls last,
            cast(unread as varchar) asc nulls last
    ) = 1

),

date_updates as (

    select
        keep_noes.message_id,
        events.anonymous_id,
        events.user_id,
        events.occurred_at,
        {{ effective_time(
            "keep_noes.status = 'denied'", 'events.stated_at', 'events.received_at'
        ) }} as effective_at,
        keep_noes.channel,
        keep_noes.purpose,
        keep_noes.is_purpose_unknown,
        keep_noes.status,
        keep_noes.subscription_group,
        keep_noes.lawful_basis,
        keep_noes.policy_version,
        keep_noes.unread
    from keep_noes
    inner join events on keep_noes.message_id = events.message_id

)

select * from date_updates
