{# What the keys of a relation say of permissions, by the CTEs `roles` and `key_parts`:
   as the seed has them, without the number of a list at their end, else as put together
   from a channel and a word of permission. #}
{% macro consent_roles(keys) -%}
    select
        keys.key,
        roles.role,
        roles.meaning
    from {{ keys }} as keys
    inner join roles
        on roles.spelled in (
            {{ spelled('keys.key') }},
            regexp_replace({{ spelled('keys.key') }}, '[0-9]+$', '')
        )
    union
    select
        key,
        case
            when denies or (denies_channel and channel is not null) then 'denying_trait'
            else 'permitting_trait'
        end as role,
        coalesce(channel, 'all') as meaning
    from (
        select
            keys.key,
            case
                when
                    count(distinct parts.meaning)
                    filter (where parts.field = 'channel_part') = 1
                    then min(parts.meaning) filter (where parts.field = 'channel_part')
                when bool_or(parts.field = 'channel_part') then 'all'
            end as channel,
            bool_or(parts.field = 'permitting_part') as permits,
            bool_or(parts.field = 'denying_part') as denies_channel,
            bool_or(parts.field = 'denying_part' and parts.meaning = 'all') as denies,
            bool_or(parts.field = 'neutral_part') as is_neutral
        from {{ keys }} as keys
        inner join key_parts as parts
            on {{ spelled('keys.key') }} like '%' || parts.spelled || '%'
        where
            {{ spelled('keys.key') }} not in (
                select roles.spelled from roles
                where roles.role not in ('channel', 'consent_purpose')
            )
        group by keys.key
    ) as composed
    where
        not is_neutral
        and (denies or (channel is not null and (permits or denies_channel)))
{%- endmacro %}
