-- One row: what the identity tables have taken in, once all of them have.
with

run as (

    select * from {{ ref('stg_run') }}

),

identity_map as (

    select * from {{ ref('identity_map') }}

),

describe_state as (

    select
        run.as_of,
        run.identity_config_hash,
        (select count(*) from identity_map) as identifier_count
    from run

)

select * from describe_state
