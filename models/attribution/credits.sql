-- One row per conversion, touch and attribution model that gives the touch credit.
{%- set attribution_models = [
    'first_touch', 'last_touch', 'linear', 'position_based', 'time_decay', 'markov'
] %}

with

cumulative_weights as (

    select * from {{ ref('cumulative_weights') }}

),

bound_shares as (

    {%- for attribution_model in attribution_models %}
    select
        conversion_id,
        touchpoint_id,
        '{{ attribution_model }}' as attribution_model,
        profile_id,
        converted_at,
        channel,
        campaign,
        journey,
        step,
        revenue_amount,
        cast({{ attribution_model }}_so_far - {{ attribution_model }}_weight as double)
        / {{ attribution_model }}_total as share_start,
        cast({{ attribution_model }}_so_far as double)
        / {{ attribution_model }}_total as share_end
    from cumulative_weights
    where {{ attribution_model }}_weight > 0
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}

),

-- cutting credit and revenue where stretches meet keeps both sums exact
cut_credits as (

    select
        conversion_id,
        touchpoint_id,
        attribution_model,
        profile_id,
        converted_at,
        channel,
        campaign,
        journey,
        step,
        cast(
            cast(share_end as decimal(18, 9))
            - cast(share_start as decimal(18, 9)) as decimal(18, 9)
        ) as credit,
        cast(
            cast(revenue_amount * share_end as decimal(18, 2))
            - cast(revenue_amount * share_start as decimal(18, 2)) as decimal(18, 2)
        ) as revenue_amount
    from bound_shares

)

select * from cut_credits
