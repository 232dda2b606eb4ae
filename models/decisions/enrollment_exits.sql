-- One row per enrollment that has ended: when and by which of its exits, the first one,
-- as the run saw it that was the first to see one. What has ended never begins again.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    full_refresh=false,
) }}

with

run as (

    select * from {{ ref('stg_run') }}

),

progress as (

    select * from {{ ref('enrollment_progress') }}

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

orders as (

    select
        profile_events.profile_id,
        stg_orders.message_id,
        stg_orders.ordered_at,
        stg_orders.status
    from {{ ref('stg_orders') }} as stg_orders
    inner join {{ ref('profile_events') }} as profile_events
        on stg_orders.message_id = profile_events.message_id

),

cart_messages as (

    select * from {{ ref('cart_messages') }}

),

missteps as (

    select * from {{ ref('missteps') }}

),

goal_events as (

    select * from {{ ref('condition_events') }}
    where place = 'exit'

),

cart_items as (

    select * from {{ ref('cart_items') }}

),

audience_members as (

    select * from {{ ref('audience_members') }}

),

-- the audiences that a journey is for, not those that it leaves out
entry_audiences as (

    select
        journey,
        {{ unnest_items('names') }} as audience
    from {{ ref('stg_conditions') }}
    where place = 'entry' and kind = 'audience' and not is_negated

),

recorded_exits as (

    {% if is_incremental() %}
        select
            enrollment_id,
            exit_reason
        from {{ this }}
    {% else %}
        select
            cast(null as varchar) as enrollment_id,
            cast(null as varchar) as exit_reason
        where false
    {% endif %}

),

open_progress as (

    select * from progress
    where
        enrollment_id not in (
            select recorded_exits.enrollment_id from recorded_exits
        )

),

collect_exits as (

    -- an order that is cancelled later was made all the same
    select
        progress.enrollment_id,
        'converted' as exit_reason,
        orders.ordered_at as exited_at
    from open_progress as progress
    inner join journeys
        on progress.journey = journeys.journey and journeys.exits_on_order
    inner join orders
        on
            progress.profile_id = orders.profile_id
            and progress.evidence_at < orders.ordered_at
    -- what began with a cart ends with the order of that one
    left join cart_messages
        on progress.evidence_message_id = cart_messages.message_id
    where
        cart_messages.message_id is null
        or orders.ordered_at >= cart_messages.ordered_at

    union all

    select
        progress.enrollment_id,
        'goal' as exit_reason,
        goal_events.occurred_at as exited_at
    from open_progress as progress
    inner join goal_events
        on
            progress.journey = goal_events.journey
            and progress.profile_id = goal_events.profile_id
            and progress.evidence_at < goal_events.occurred_at

    union all

    select
        progress.enrollment_id,
        'cart_emptied' as exit_reason,
        run.as_of as exited_at
    from open_progress as progress
    cross join run
    inner join journeys
        on progress.journey = journeys.journey and journeys.exits_on_cart_emptied
    where
        progress.profile_id not in (select cart_items.profile_id from cart_items)

    union all

    select
        progress.enrollment_id,
        'audience_left' as exit_reason,
        run.as_of as exited_at
    from open_progress as progress
    cross join run
    inner join journeys
        on progress.journey = journeys.journey and journeys.exits_on_audience_left
    where
        not exists (
            select 1 from audience_members
            inner join entry_audiences
                on audience_members.audience = entry_audiences.audience
            where
                entry_audiences.journey = progress.journey
                and audience_members.profile_id = progress.profile_id
        )

    union all

    -- what began with an order ends with it
    select
        progress.enrollment_id,
        'cancelled' as exit_reason,
        run.as_of as exited_at
    from open_progress as progress
    cross join run
    inner join orders
        on
            progress.evidence_message_id = orders.message_id
            and orders.status = 'cancelled'

    union all

    select
        progress.enrollment_id,
        'misstep' as exit_reason,
        missteps.opened_at as exited_at
    from open_progress as progress
    inner join journeys
        on progress.journey = journeys.journey and journeys.exits_on_misstep
    inner join missteps
        on
            progress.profile_id = missteps.profile_id
            and progress.evidence_at < missteps.opened_at

    union all

    select
        progress.enrollment_id,
        'resolved' as exit_reason,
        missteps.resolved_at as exited_at
    from open_progress as progress
    inner join journeys
        on progress.journey = journeys.journey and journeys.exits_on_resolved
    inner join missteps
        on
            progress.profile_id = missteps.profile_id
            and progress.evidence_message_id = missteps.evidence_message_id

    union all

    select
        progress.enrollment_id,
        'completed' as exit_reason,
        progress.last_sent_at as exited_at
    from open_progress as progress
    inner join journeys on progress.journey = journeys.journey
    where
        progress.last_step_position >= journeys.step_count
        and progress.is_last_settled

    union all

    select
        progress.enrollment_id,
        'expired' as exit_reason,
        {{ add_seconds('progress.entered_at', 'journeys.expires_after_seconds') }}
            as exited_at
    from open_progress as progress
    inner join journeys on progress.journey = journeys.journey

),

first_exits as (

    select
        collect_exits.enrollment_id,
        collect_exits.exit_reason,
        collect_exits.exited_at
    from collect_exits
    cross join run
    where collect_exits.exited_at <= run.as_of
    qualify row_number() over (
        partition by collect_exits.enrollment_id
        order by collect_exits.exited_at asc, collect_exits.exit_reason asc
    ) = 1

),

know_ends as (

    select
        progress.*,
        first_exits.enrollment_id is not null
        or recorded_exits.enrollment_id is not null as is_over
    from progress
    left join first_exits on progress.enrollment_id = first_exits.enrollment_id
    left join recorded_exits
        on progress.enrollment_id = recorded_exits.enrollment_id
    where coalesce(recorded_exits.exit_reason, '') <> 'merged'

),

-- two people who turn out to be one go on where they had come furthest, and not at all
-- where one of them had ended
find_merged as (

    select distinct
        ours.enrollment_id,
        'merged' as exit_reason,
        run.as_of as exited_at
    from know_ends as ours
    cross join run
    inner join journeys on ours.journey = journeys.journey
    inner join know_ends as others
        on
            ours.profile_id = others.profile_id
            and ours.journey = others.journey
            and ours.enrollment_id <> others.enrollment_id
            and ours.entry_profile_id <> others.entry_profile_id
    where
        not ours.is_over
        and (
            journeys.re_eligible_after_seconds is null
            or {{ add_seconds(
                'least(ours.entered_at, others.entered_at)',
                'journeys.re_eligible_after_seconds'
            ) }} > greatest(ours.entered_at, others.entered_at)
        )
        and (
            others.is_over
            or others.last_step_position > ours.last_step_position
            or (
                others.last_step_position = ours.last_step_position
                and (
                    others.entered_at < ours.entered_at
                    or (
                        others.entered_at = ours.entered_at
                        and others.enrollment_id < ours.enrollment_id
                    )
                )
            )
        )

),

unite_exits as (

    select * from first_exits
    union all
    select * from find_merged

),

record_exits as (

    select
        unite_exits.enrollment_id,
        unite_exits.exit_reason,
        unite_exits.exited_at,
        run.as_of
    from unite_exits
    cross join run
    where run.is_newest

)

select * from record_exits
