-- Whatever arrived was understood; if not, the table says what it was, and how often.
{{ config(severity='warn') }}

select * from {{ ref('not_understood') }}
