-- One row per misstep: what went wrong for a customer, and whether it is over.
with

service_events as (

    select * from {{ ref('stg_service_events') }}

),

message_events as (

    select * from {{ ref('stg_message_events') }}

),

refunds as (

    select * from {{ ref('stg_refunds') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

profile_rules as (

    select * from {{ ref('profile_rules') }}

),

misstep_rules as (

    select * from {{ ref('misstep_rules') }}

),

list_missteps as (

    select
        service_events.message_id,
        case
            when service_events.kind = 'ticket_opened' then 'unresolved_ticket'
            when service_events.kind = 'delivery_delayed' then 'delay'
            when service_events.kind = 'nps' then 'detractor_score'
            else 'poor_review'
        end as kind,
        service_events.ticket_id,
        service_events.order_id
    from service_events
    cross join profile_rules
    where
        service_events.kind in ('ticket_opened', 'delivery_delayed')
        or (
            service_events.kind = 'nps'
            and service_events.score <= profile_rules.detractor_max_score
        )
        or (
            service_events.kind = 'review'
            and service_events.score <= profile_rules.poor_review_max_score
        )
    union all
    select
        message_id,
        'complaint' as kind,
        cast(null as varchar) as ticket_id,
        cast(null as varchar) as order_id
    from message_events
    where interaction = 'complained'
    union all
    select
        message_id,
        'refund' as kind,
        cast(null as varchar) as ticket_id,
        order_id
    from refunds

),

date_missteps as (

    select
        list_missteps.*,
        profile_events.profile_id,
        profile_events.occurred_at as opened_at
    from list_missteps
    inner join profile_events on list_missteps.message_id = profile_events.message_id

),

list_resolutions as (

    select
        profile_events.profile_id,
        case
            when service_events.kind = 'ticket_resolved' then 'unresolved_ticket'
            else 'detractor_score'
        end as kind,
        case
            when service_events.kind = 'ticket_resolved' then service_events.ticket_id
        end as ticket_id,
        profile_events.occurred_at as resolved_at,
        profile_events.message_id
    from service_events
    inner join profile_events on service_events.message_id = profile_events.message_id
    cross join profile_rules
    where
        service_events.kind = 'ticket_resolved'
        or (
            service_events.kind = 'nps'
            and service_events.score > profile_rules.detractor_max_score
        )

),

find_resolutions as (

    select
        date_missteps.message_id,
        date_missteps.kind,
        min(list_resolutions.resolved_at) as resolved_at,
        min_by(
            list_resolutions.message_id,
            (list_resolutions.resolved_at, list_resolutions.message_id)
        ) as resolved_message_id
    from date_missteps
    inner join list_resolutions
        on
            date_missteps.profile_id = list_resolutions.profile_id
            and date_missteps.kind = list_resolutions.kind
            and (
                date_missteps.ticket_id is null
                or list_resolutions.ticket_id is null
                or date_missteps.ticket_id = list_resolutions.ticket_id
            )
            and date_missteps.opened_at <= list_resolutions.resolved_at
    group by date_missteps.message_id, date_missteps.kind

),

time_out as (

    select
        date_missteps.*,
        run.as_of,
        find_resolutions.resolved_at as answered_at,
        find_resolutions.resolved_message_id,
        least(
            coalesce(
                find_resolutions.resolved_at,
                {{ add_days(
                    'date_missteps.opened_at', 'misstep_rules.resolves_after_days'
                ) }}
            ),
            {{ add_days(
                'date_missteps.opened_at', 'misstep_rules.resolves_after_days'
            ) }}
        ) as over_at
    from date_missteps
    inner join misstep_rules on date_missteps.kind = misstep_rules.kind
    cross join run
    left join find_resolutions
        on
            date_missteps.message_id = find_resolutions.message_id
            and date_missteps.kind = find_resolutions.kind

),

state_missteps as (

    select
        {{ surrogate_key(['kind', 'message_id']) }} as misstep_id,
        profile_id,
        kind,
        opened_at,
        case when over_at <= as_of then over_at end as resolved_at,
        message_id as evidence_message_id,
        case
            when over_at = answered_at and over_at <= as_of then resolved_message_id
        end as resolved_message_id,
        ticket_id,
        order_id,
        over_at > as_of as is_open
    from time_out

)

select * from state_missteps
