{%- set depth = 6 -%}
-- One row per message and value in it that speaks of a permission: what its traits
-- state and its properties, where these are those of a consent or of no other model.
{{ config(materialized='by_message') }}

with recursive

events as (

    select * from {{ ref('stg_events') }}
    where {{ is_new_message() }}

),

roles as (

    select
        {{ spelled('spelling') }} as spelled,
        case
            when field in ('properties', 'consent_key') then meaning || '_key'
            else field
        end as role,
        meaning
    from {{ ref('spellings') }}
    where
        field in (
            'permitting_trait',
            'denying_trait',
            'consent_map',
            'settings_map',
            'setting_name',
            'setting_value',
            'consent_key',
            'channel'
        )
        or (field = 'properties' and meaning in ('channel', 'purpose', 'status'))
        -- `preferences` name no purpose, they hold some
        or (field = 'consent_purpose' and spelling <> 'preferences')

),

key_parts as (

    select
        field,
        {{ spelled('spelling') }} as spelled,
        meaning
    from {{ ref('spellings') }}
    where
        field in ('channel_part', 'permitting_part', 'denying_part', 'neutral_part')

),

channel_spellings as (

    select * from {{ spellings('channel') }}

),

status_spellings as (

    select * from {{ spellings('consent_status') }}

),

statement_words as (

    select * from {{ spellings('statement_word') }}

),

-- events that nobody knows, named for what may be a statement
list_statements as (

    select distinct event_names.event
    from {{ ref('stg_event_names') }} as event_names
    inner join statement_words
        on
            {{ spelled('event_names.event') }}
            like '%' || statement_words.spelled || '%'
    where event_names.kind is null

),

list_objects as (

    select
        message_id,
        'traits' as place,
        traits as stated,
        json_keys(traits) as keys
    from events
    where traits is not null
    union all
    select
        message_id,
        case
            when action = 'reply' then 'reply'
            when action = 'unsubscribed' then 'consent'
            when kind = 'consent' and action <> 'preferences' then 'consent'
            when event in (select list_statements.event from list_statements)
                then 'statement'
            else 'properties'
        end as place,
        properties as stated,
        json_keys(properties) as keys
    from events
    where
        type = 'track'
        and (
            coalesce(kind, 'other') in ('consent', 'activity', 'other')
            or action = 'unsubscribed'
        )

),

list_keys as (

    select
        place,
        keys,
        {{ unnest_items('keys') }} as key
    from (
        select distinct
            place,
            keys
        from list_objects
    ) as key_lists

),

-- keys may be paths, such as `preferences.email`
first_keys as (

    select distinct split_part(key, '.', 1) as key
    from list_keys

),

name_first_keys as (

    {{ consent_roles('first_keys') | indent(4) }}

),

keep_keys as (

    select distinct
        list_keys.place,
        list_keys.keys,
        list_keys.key
    from list_keys
    left join name_first_keys as names
        on split_part(list_keys.key, '.', 1) = names.key
    where
        list_keys.place in ('consent', 'reply', 'statement')
        or names.role in ('permitting_trait', 'denying_trait', 'consent_map')
        or (names.role = 'settings_map' and list_keys.place = 'traits')
        or (
            names.role in ('setting_name', 'setting_value', 'status_key')
            and list_keys.place = 'properties'
        )

),

list_outermost as (

    select
        list_objects.message_id,
        list_objects.place,
        keep_keys.key as path,
        json_extract(list_objects.stated, {{ json_pointer('keep_keys.key') }}) as stated
    from list_objects
    inner join keep_keys
        on
            list_objects.place = keep_keys.place
            and list_objects.keys = keep_keys.keys

),

-- what these are and hold; objects and lists may be written as text
list_held as (

    select
        message_id,
        place,
        path,
        {{ unfolded('stated') }} as stated,
        1 as level
    from list_outermost
    union all
    select
        message_id,
        place,
        path || '.' || held[1] as path,
        {{ unfolded('held[2]') }} as stated,
        level + 1 as level
    from (
        select
            message_id,
            place,
            path,
            level,
            unnest(case json_type(stated)
                when 'OBJECT'
                    then list_zip(json_keys(stated), json_extract(stated, '$.*'))
                when 'ARRAY'
                    then list_zip(
                        list_transform(
                            generate_series(
                                1, cast(json_array_length(stated) as bigint)
                            ),
                            lambda position: '#' || position
                        ),
                        json_extract(stated, '$[*]')
                    )
            end) as held
        from list_held
        where level < {{ depth }}
    ) as items

),

list_stated_leaves as (

    select
        message_id,
        place,
        path,
        json_extract_string(stated, '$') as value
    from list_held
    where
        json_type(stated) <> 'NULL'
        and (json_type(stated) not in ('OBJECT', 'ARRAY') or level = {{ depth }})

),

-- a setting whose name is one value and its state another
list_settings as (

    select
        list_stated_leaves.message_id,
        list_stated_leaves.place,
        regexp_extract(list_stated_leaves.path, '^(.*)[.][^.]*$', 1) as parent_path,
        list_stated_leaves.value,
        roles.role
    from list_stated_leaves
    inner join roles
        on
            roles.spelled
            = {{ spelled("split_part(list_stated_leaves.path, '.', -1)") }}
            and roles.role in ('setting_name', 'setting_value', 'status_key')

),

list_leaves as (

    select * from list_stated_leaves
    union all
    select
        names.message_id,
        names.place,
        concat_ws('.', nullif(names.parent_path, ''), names.value) as path,
        states.value
    from list_settings as names
    inner join list_settings as states
        on
            names.message_id = states.message_id
            and names.place = states.place
            and names.parent_path = states.parent_path
    where
        names.role = 'setting_name'
        and states.role in ('setting_value', 'status_key')
        and length(names.value) <= 60

),

list_parts as (

    select
        place,
        path,
        unnest(split(path, '.')) as part,
        generate_subscripts(split(path, '.'), 1) as position,
        length(split(path, '.')) as last_position
    from (
        select distinct
            place,
            path
        from list_leaves
    ) as paths

),

distinct_parts as (

    select distinct part as key
    from list_parts

),

name_distinct_parts as (

    {{ consent_roles('distinct_parts') | indent(4) }}

),

name_parts as (

    select
        list_parts.place,
        list_parts.path,
        list_parts.position,
        list_parts.position = list_parts.last_position as is_last,
        list_parts.part,
        case when list_parts.part like '#%' then 'item' else names.role end as role,
        names.meaning
    from list_parts
    left join name_distinct_parts as names on list_parts.part = names.key

),

describe_paths as (

    select
        place,
        path,
        {%- for role in ['denying_trait', 'permitting_trait', 'consent_map'] %}
        coalesce(bool_or(role = '{{ role }}'), false) as has_{{ role }},
        {%- endfor %}
        coalesce(bool_or(role is null and not is_last), false) as has_unknown,
        coalesce(
            list(distinct role) filter (where is_last and role is not null), []
        ) as last_roles,
        max(part) filter (where is_last) as last_part,
        max_by(meaning, (position, meaning)) filter (
            where
                role in ('channel', 'permitting_trait', 'denying_trait', 'consent_map')
                and meaning <> 'all'
        ) as channel,
        max_by(meaning, (position, meaning)) filter (where role = 'consent_purpose')
            as purpose,
        array_to_string(
            list(part order by position asc) filter (where not is_last), '.'
        ) as parent_path
    from name_parts
    group by place, path

),

-- an unknown key in a map of permissions is a topic; elsewhere it says something else
find_subjects as (

    select
        *,
        case
            when
                place in ('consent', 'reply')
                and list_contains(last_roles, 'subscription_group_key')
                then 'subscription_group'
            when place = 'reply' and list_contains(last_roles, 'answer_key')
                then 'answer'
            when has_denying_trait then 'denial'
            when list_has_any(last_roles, ['detail_key', 'channel_key', 'purpose_key'])
                then 'detail'
            when has_permitting_trait or has_consent_map then 'permission'
            when has_unknown or place = 'properties' then null
            when
                list_contains(last_roles, 'consent_purpose')
                or (list_contains(last_roles, 'channel') and channel is not null)
                or (list_contains(last_roles, 'status_key') and place <> 'statement')
                then 'permission'
        end as subject,
        has_permitting_trait or has_consent_map as is_about_consent,
        place = 'traits' and last_roles = ['status_key'] as is_vague,
        case
            when has_consent_map and last_roles = [] then last_part
        end as topic
    from describe_paths

),

read_leaves as (

    select
        list_leaves.message_id,
        list_leaves.place,
        list_leaves.path,
        list_leaves.value,
        find_subjects.parent_path,
        find_subjects.subject,
        find_subjects.channel,
        find_subjects.purpose,
        find_subjects.topic,
        find_subjects.is_about_consent,
        find_subjects.is_vague and not find_subjects.is_about_consent as is_vague,
        find_subjects.last_roles
    from list_leaves
    inner join find_subjects
        on
            list_leaves.place = find_subjects.place
            and list_leaves.path = find_subjects.path
    where find_subjects.subject is not null

),

-- an unknown word, not a text, that holds a part of a denial, as "user_unsubscribed"
denying_values as (

    select
        short_values.value,
        'denied' as meaning,
        bool_or(key_parts.meaning = 'all') as is_plain
    from (
        select distinct value
        from read_leaves
        where subject = 'permission' and length(value) <= 40
    ) as short_values
    inner join key_parts
        on
            key_parts.field = 'denying_part'
            and {{ spelled('short_values.value') }}
            like '%' || key_parts.spelled || '%'
    group by short_values.value

),

-- what stands beside a value, such as the channel in an item of a list
describe_neighbours as (

    select
        message_id,
        place,
        parent_path,
        min(case when list_contains(last_roles, 'channel_key') then value end)
            as channel,
        min(case when list_contains(last_roles, 'purpose_key') then value end)
            as purpose
    from read_leaves
    where parent_path <> '' and subject = 'detail'
    group by message_id, place, parent_path

),

read_values as (

    select
        read_leaves.message_id,
        read_leaves.place,
        read_leaves.path,
        read_leaves.subject,
        read_leaves.value,
        coalesce(
            case
                when list_contains(read_leaves.last_roles, 'item')
                    then channel_spellings.meaning
            end,
            read_leaves.channel,
            neighbours.channel
        ) as channel,
        coalesce(
            read_leaves.purpose, neighbours.purpose, read_leaves.topic, 'marketing'
        ) as purpose,
        case
            -- the state of an account or a subscription to a product is no permission
            when read_leaves.is_vague
                then case when denying_values.is_plain then 'denied' end
            when read_leaves.subject = 'permission'
                then coalesce(status_spellings.meaning, denying_values.meaning)
            when read_leaves.subject = 'denial'
                then
                    case
                        when
                            {{ spelled('read_leaves.value') }} in (
                                'false', 'f', 'no', 'n', '0', 'off',
                                'never', 'null', 'none'
                            )
                            or trim(read_leaves.value) = ''
                            then 'granted'
                        else 'denied'
                    end
        end as status,
        case
            when
                read_leaves.subject = 'permission'
                and read_leaves.is_about_consent
                and channel_spellings.meaning is null
                and denying_values.meaning is null
                then {{ unread([
                    ('consent_status', 'read_leaves.value', 'status_spellings.meaning')
                ]) }}
        end as unread
    from read_leaves
    left join describe_neighbours as neighbours
        on
            read_leaves.message_id = neighbours.message_id
            and read_leaves.place = neighbours.place
            and read_leaves.parent_path = neighbours.parent_path
    left join status_spellings
        on {{ spelled('read_leaves.value') }} = status_spellings.spelled
    left join channel_spellings
        on {{ spelled('read_leaves.value') }} = channel_spellings.spelled
    left join denying_values on read_leaves.value = denying_values.value
    where read_leaves.subject <> 'detail'

)

select * from read_values
