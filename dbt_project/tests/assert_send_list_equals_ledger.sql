-- The ledger knows every send that was ever decided, in one of its states, no other.
-- Runs after activation, so not in the build before it: --exclude tag:after_activation.
{{ config(tags=['after_activation']) }}

with

listed as (

    select * from {{ ref('send_list') }}

),

recorded as (

    select * from {{ source('activations', 'sends') }}

)

select
    coalesce(listed.send_id, recorded.send_id) as send_id,
    recorded.state
from listed
full outer join recorded on listed.send_id = recorded.send_id
where
    listed.send_id is null
    or recorded.send_id is null
    or recorded.state not in (
        'pending', 'inflight', 'sent', 'suppressed', 'dead', 'unknown'
    )
