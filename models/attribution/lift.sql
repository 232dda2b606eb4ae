-- One row per journey (and `all`): what we caused, next to what credits say we earned,
-- or why nothing can be said of it.
with

lift_entries as (

    select * from {{ ref('lift_entries') }}
    where trial_type = 'journey'

),

lift_arms as (

    select * from {{ ref('lift_arms') }}
    where trial_type = 'journey'

),

lift_comparisons as (

    select * from {{ ref('lift_comparisons') }}
    where trial_type = 'journey' and metric = 'conversion'

),

journeys as (

    select * from {{ ref('stg_journeys') }}

),

list_journeys as (

    select 'all' as journey
    union
    select journey from journeys
    union
    select trial as journey from lift_entries

),

count_left_out as (

    select
        trial as journey,
        count(case when exclusion_reason = 'horizon_open' then 1 end) as waiting_count,
        count(case when exclusion_reason = 'not_written_to' then 1 end)
            as unwritten_count
    from lift_entries
    group by trial

),

compare_arms as (

    select
        list_journeys.journey,
        coalesce(treated.profile_count, 0) as treated_count,
        coalesce(control.profile_count, 0) as control_count,
        treated.conversion_rate as conversion_rate_treated,
        control.conversion_rate as conversion_rate_control,
        lift_comparisons.incremental_lift,
        lift_comparisons.lift_low,
        lift_comparisons.lift_high,
        lift_comparisons.finding,
        lift_comparisons.minimal_detectable_lift,
        lift_comparisons.still_needed_count,
        case
            when lift_comparisons.incremental_lift is not null then cast(
                treated.revenue_amount
                - treated.profile_count * control.revenue_amount / control.profile_count
                as decimal(18, 2)
            )
        end as incremental_revenue_amount,
        coalesce(treated.attributed_revenue_amount, 0) as attributed_revenue_amount,
        coalesce(count_left_out.waiting_count, 0) as waiting_count,
        coalesce(count_left_out.unwritten_count, 0) as unwritten_count,
        lift_comparisons.sample_ratio_p_value,
        case
            when treated.profile_count > 0 then lift_comparisons.unknown_reason
            when control.profile_count > 0 then 'nobody_treated'
            when count_left_out.waiting_count > 0 then 'horizon_open'
            when count_left_out.unwritten_count > 0 then 'nobody_written_to'
            else 'nobody_entered'
        end as unknown_reason
    from list_journeys
    left join count_left_out on list_journeys.journey = count_left_out.journey
    left join lift_comparisons on list_journeys.journey = lift_comparisons.trial
    left join lift_arms as treated
        on list_journeys.journey = treated.trial and not treated.is_control
    left join lift_arms as control
        on list_journeys.journey = control.trial and control.is_control

)

select * from compare_arms
