-- One row per conversion, touch and attribution model that gives the touch credit.
{%- set attribution_models = [
    'first_touch', 'last_touch', 'linear', 'position_based', 'time_decay', 'markov'
] %}

with

credit_stretches as (

    select * from {{ ref('credit_stretches') }}

),

touchpoints as (

    select * from {{ ref('touchpoints') }}

),

list_stretches as (

    {%- for attribution_model in attribution_models %}
    select
        conversion_id,
        profile_id,
        converted_at,
        touchpoint_id,
        '{{ attribution_model }}' as attribution_model,
        revenue_amount,
        cast({{ attribution_model }}_so_far - {{ attribution_model }}_weight as double)
        / {{ attribution_model }}_total as stretch_start,
        cast({{ attribution_model }}_so_far as double)
        / {{ attribution_model }}_total as stretch_end
    from credit_stretches
    where {{ attribution_model }}_weight > 0
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}

),

-- cutting credit and revenue where stretches meet keeps both sums exact
cut_credits as (

    select
        list_stretches.conversion_id,
        list_stretches.touchpoint_id,
        list_stretches.attribution_model,
        list_stretches.profile_id,
        list_stretches.converted_at,
        coalesce(touchpoints.channel, 'none') as channel,
        touchpoints.campaign,
        touchpoints.journey,
        touchpoints.step,
        cast(
            cast(stretch_end as decimal(18, 9))
            - cast(stretch_start as decimal(18, 9)) as decimal(18, 9)
        ) as credit,
        cast(
            cast(list_stretches.revenue_amount * stretch_end as decimal(18, 2))
            - cast(list_stretches.revenue_amount * stretch_start as decimal(18, 2))
            as decimal(18, 2)
        ) as revenue_amount
    from list_stretches
    left join touchpoints
        on list_stretches.touchpoint_id = touchpoints.touchpoint_id

)

select * from cut_credits
