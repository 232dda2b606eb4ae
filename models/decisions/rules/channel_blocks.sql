-- One row per possible send and rule by which its channel stands still: somebody
-- stopped it, or too many who got a message there complained or were not reached.
with

possible_sends as (

    select * from {{ ref('possible_sends') }}

),

stopped_channels as (

    select * from {{ ref('stg_stopped_channels') }}

),

breakers as (

    select * from {{ ref('breakers') }}
    where state = 'stop'

),

find_stopped as (

    select
        possible_sends.send_id,
        {{ stated_rule('channel_stopped') }} as rule,
        stopped_channels.reason as reason_detail
    from possible_sends
    inner join stopped_channels on possible_sends.channel = stopped_channels.channel

),

find_broken as (

    select
        possible_sends.send_id,
        {{ stated_rule('breaker') }} as rule,
        {{ joined_list(
            ordered_list('breakers.reason_detail', 'breakers.reason_detail asc'), '; '
        ) }} as reason_detail
    from possible_sends
    inner join breakers on possible_sends.channel = breakers.channel
    group by possible_sends.send_id

),

unite_blocks as (

    select * from find_stopped
    union all
    select * from find_broken

)

select * from unite_blocks
