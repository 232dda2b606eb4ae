-- Spellings are compared by letters and digits alone: two that are alike there would
-- make two rows of each message that holds one.
{{ config(meta={'dagster': {'ref': {'name': 'spellings'}}}) }}

with

list_spellings as (

    select
        field,
        {{ spelled('spelling') }} as spelled
    from {{ ref('spellings') }}

    union all

    select
        'event' as field,
        {{ spelled('event') }} as spelled
    from {{ ref('semantic_events') }}

)

select
    field,
    spelled
from list_spellings
group by field, spelled
having count(*) > 1
