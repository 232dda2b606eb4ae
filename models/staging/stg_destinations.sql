-- One row per channel whose messages go somewhere in this run: where to.
with

destinations as (

    select * from {{ source('raw', 'destinations') }}

)

select * from destinations
