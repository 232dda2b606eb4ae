-- One row per channel that somebody stopped: since when, and why.
with

stopped_channels as (

    select * from {{ source('raw', 'stopped_channels') }}

)

select * from stopped_channels
