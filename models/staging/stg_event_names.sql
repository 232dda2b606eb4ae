-- One row per name under which track calls arrived: the event that it stands for.
with

events as (

    select distinct event from {{ source('raw', 'events') }}
    where type = 'track' and event is not null

),

semantic_events as (

    select
        {{ spelled('event') }} as spelled,
        event,
        kind,
        action,
        channel
    from {{ ref('semantic_events') }}

),

denial_words as (

    select * from {{ spellings('denial_word') }}

),

normalize_names as (

    select
        event,
        {{ spelled('event') }} as spelled
    from events

),

find_known as (

    select
        normalize_names.event,
        normalize_names.spelled,
        semantic_events.kind,
        semantic_events.action,
        semantic_events.channel
    from normalize_names
    left join semantic_events on normalize_names.spelled = semantic_events.spelled

),

-- names that hold an id differ in their digits alone
list_unknown as (

    select distinct regexp_replace(spelled, '[0-9]', '', 'g') as letters
    from find_known
    where kind is null

),

measure_distances as (

    select
        list_unknown.letters,
        semantic_events.event,
        semantic_events.kind,
        semantic_events.action,
        semantic_events.channel,
        levenshtein(list_unknown.letters, semantic_events.spelled) as distance
    from list_unknown
    inner join semantic_events
        on
            abs(length(list_unknown.letters) - length(semantic_events.spelled))
            <= length(list_unknown.letters) // 5

),

find_nearest as (

    select * from measure_distances
    where distance <= length(letters) // 5
    qualify row_number() over (
        partition by letters order by distance asc, event asc
    ) = 1

),

find_denials as (

    select distinct list_unknown.letters
    from list_unknown
    inner join denial_words
        on list_unknown.letters like '%' || denial_words.spelled || '%'

),

-- what may be a denial is taken for one, of every channel
describe_names as (

    select
        find_known.event,
        case
            when find_known.kind is not null then find_known.kind
            when find_denials.letters is not null or (
                find_nearest.action in ('unsubscribed', 'complained', 'denied')
            ) then 'consent'
        end as kind,
        case
            when find_known.kind is not null then find_known.action
            when find_denials.letters is not null or (
                find_nearest.action in ('unsubscribed', 'complained', 'denied')
            ) then 'denied'
        end as action,
        find_known.channel,
        find_known.kind is not null as is_known,
        find_nearest.event as suggestion
    from find_known
    left join find_nearest
        on
            find_known.kind is null
            and regexp_replace(find_known.spelled, '[0-9]', '', 'g')
            = find_nearest.letters
    left join find_denials
        on
            find_known.kind is null
            and regexp_replace(find_known.spelled, '[0-9]', '', 'g')
            = find_denials.letters

)

select * from describe_names
