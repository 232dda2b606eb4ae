-- One row per override that a human decided, in force or not; an error that names
-- what to mend where one cannot be read.
with

override_rules as (

    select * from {{ ref('override_rules') }}

),

channel_rules as (

    select * from {{ ref('channel_rules') }}

),

audiences as (

    select * from {{ ref('stg_audiences') }}

),

find_mistakes as (

    select
        *,
        case
            when priority is null then 'it is missing'
            when count(*) over (partition by priority) > 1
                then 'more than one row has it'
            when
                audience is null
                or audience not in (select audiences.audience from audiences)
                then 'there is no such audience; write it, as a file of its name'
            when
                override is null
                or override not in ('never_score', 'never_contact', 'force_channel')
                then 'an override is never_score, never_contact or force_channel'
            when override = 'force_channel' and channel is null
                then 'the channel is missing'
            when override <> 'force_channel' and channel is not null
                then 'only force_channel takes a channel'
            when channel not in (select channel_rules.channel from channel_rules)
                then 'channel_rules.csv has no such channel'
            when override <> 'never_contact' and message_class is not null
                then 'only never_contact takes a message_class'
            when message_class not in ('marketing', 'all')
                then 'a message_class is marketing or all'
            when
                (valid_from is not null and {{ iso_date('valid_from') }} is null)
                or (valid_until is not null and {{ iso_date('valid_until') }} is null)
                then 'a day is written like 2026-01-31'
            when valid_until < valid_from then 'it ends before it begins'
            when decided_by is null or reason is null
                then 'decided_by and reason are not both given'
        end as mistake
    from override_rules

),

validation_errors as (

    select
        {{ joined_list(ordered_list(
            "'override_rules.csv, priority ' || coalesce(cast(priority as varchar), '')"
            ~ " || ': ' || mistake",
            'priority asc, audience asc'
        ), '; ') }} as mistakes
    from find_mistakes
    where mistake is not null

),

stop_on_mistakes as (

    select
        find_mistakes.priority,
        find_mistakes.audience,
        find_mistakes.override,
        find_mistakes.channel,
        case
            when find_mistakes.override = 'never_contact'
                then coalesce(find_mistakes.message_class, 'marketing')
        end as message_class,
        find_mistakes.reason,
        find_mistakes.decided_by,
        {{ iso_date('find_mistakes.valid_from') }} as valid_from,
        {{ iso_date('find_mistakes.valid_until') }} as valid_until
    from find_mistakes
    cross join validation_errors
    where {{ raise_if_any('validation_errors.mistakes') }}

)

select * from stop_on_mistakes
