-- One row per test of an entry or of a step and fact by which somebody passes it now.
{%- set key = ['journey', 'place', 'step', 'alternative', 'test'] %}
with

run as (

    select * from {{ ref('stg_run') }}

),

conditions as (

    select * from {{ ref('stg_conditions') }}
    where place in ('entry', 'step')

),

condition_events as (

    select * from {{ ref('condition_events') }}

),

events as (

    select * from {{ ref('stg_events') }}

),

profile_events as (

    select * from {{ ref('profile_events') }}

),

product_interactions as (

    select * from {{ ref('product_interactions') }}
    where product_id is not null

),

profiles as (

    select
        profiles.profile_id,
        {{ local_time('run.as_of', 'coalesce(time_zones.time_zone, run.time_zone)') }}
            as local_now
    from {{ ref('profiles') }} as profiles
    cross join run
    left join {{ ref('time_zones') }} as time_zones
        on profiles.timezone = time_zones.time_zone

),

missteps as (

    select * from {{ ref('missteps') }}
    where is_open

),

intents as (

    select * from {{ ref('intents') }}
    where intent <> 'none'

),

phases as (

    select * from {{ ref('phases') }}

),

condition_traits as (

    select * from {{ ref('condition_traits') }}
    where place in ('entry', 'step')

),

audience_members as (

    select * from {{ ref('audience_members') }}

),

scores as (

    select * from {{ source('ml', 'scores') }}

),

message_products as (

    select
        message_id,
        min(product_id) as product_id
    from product_interactions
    group by message_id

),

find_events as (

    select
        conditions.*,
        condition_events.profile_id,
        condition_events.message_id,
        condition_events.occurred_at,
        message_products.product_id,
        count(*) over (
            partition by
                {%- for column in key %}
                conditions.{{ column }},
                {%- endfor %}
                condition_events.profile_id
        ) as event_count,
        row_number() over (
            partition by
                {%- for column in key %}
                conditions.{{ column }},
                {%- endfor %}
                condition_events.profile_id
            order by condition_events.occurred_at desc, condition_events.message_id asc
        ) as newness
    from conditions
    cross join run
    inner join condition_events
        on
            conditions.journey = condition_events.journey
            and conditions.place = condition_events.place
            and conditions.step is not distinct from condition_events.step
            and conditions.alternative = condition_events.alternative
            and conditions.test = condition_events.test
            and condition_events.kind = 'event'
    left join message_products
        on condition_events.message_id = message_products.message_id
    where
        conditions.kind = 'event'
        and conditions.place = 'entry'
        and (
            conditions.within_seconds is null
            or {{ add_seconds(
                'condition_events.occurred_at', 'conditions.within_seconds'
            ) }} > run.as_of
        )
        -- what must not follow has had its time, and did not
        and (
            conditions.wait_seconds is null
            or (
                {{ add_seconds(
                    'condition_events.occurred_at', 'conditions.wait_seconds'
                ) }} <= run.as_of
                and not exists (
                    select 1 from condition_events as followers
                    where
                        followers.kind = 'without'
                        and conditions.journey = followers.journey
                        and conditions.place = followers.place
                        and conditions.step is not distinct from followers.step
                        and conditions.alternative = followers.alternative
                        and conditions.test = followers.test
                        and condition_events.profile_id = followers.profile_id
                        and condition_events.occurred_at < followers.occurred_at
                        and {{ add_seconds(
                            'condition_events.occurred_at', 'conditions.wait_seconds'
                        ) }} >= followers.occurred_at
                )
            )
        )

),

oldest_missteps as (

    select * from missteps
    qualify row_number() over (
        partition by profile_id order by opened_at asc, evidence_message_id asc
    ) = 1

),

date_names as (

    select distinct name from conditions
    where kind = 'date'

),

stated_dates as (

    select
        date_names.name,
        profile_events.profile_id,
        max_by(
            {{ iso_date(
                'left(' ~ json_text_at('events.traits', "'$.' || date_names.name")
                ~ ', 10)'
            ) }},
            (events.occurred_at, events.message_id)
        ) as stated_on
    from date_names
    cross join events
    inner join profile_events on events.message_id = profile_events.message_id
    where
        {{ json_text_at('events.traits', "'$.' || date_names.name") }} is not null
    group by date_names.name, profile_events.profile_id

),

years as (

    select {{ unnest_items('[-1, 0, 1]') }} as shift

),

-- the day that a date falls on this year, the 29th of February on the 28th but in leap
-- years, or the last and next year's where the days that it is moved by lead there
list_days as (

    select
        conditions.*,
        stated_dates.profile_id,
        stated_dates.stated_on,
        profiles.local_now,
        cast(
            case
                when conditions.is_yearly
                    then stated_dates.stated_on + to_years(cast(
                        extract(year from profiles.local_now) + years.shift
                        - extract(year from stated_dates.stated_on) as integer
                    ))
                else stated_dates.stated_on
            end as date
        ) + cast(conditions.shift_days as integer) as falls_on
    from conditions
    inner join stated_dates on conditions.name = stated_dates.name
    inner join profiles on stated_dates.profile_id = profiles.profile_id
    inner join years on conditions.is_yearly or years.shift = 0
    where conditions.kind = 'date'

),

order_products as (

    select
        profile_id,
        product_id,
        message_id,
        occurred_at,
        lead(occurred_at) over (
            partition by profile_id, product_id
            order by occurred_at asc, message_id asc
        ) as reordered_at
    from product_interactions
    where action = 'ordered'

),

reorder_times as (

    select
        product_id,
        count(reordered_at) as reorder_count,
        median({{ seconds_between('occurred_at', 'reordered_at') }}) as usual_seconds
    from order_products
    group by product_id

),

-- of an order, the product that runs out first
find_running_out as (

    select
        conditions.*,
        order_products.profile_id,
        order_products.product_id,
        order_products.message_id,
        order_products.occurred_at,
        case
            when reorder_times.reorder_count >= conditions.minimum_count
                then reorder_times.usual_seconds
            else conditions.within_seconds
        end as usual_seconds
    from conditions
    cross join order_products
    inner join reorder_times on order_products.product_id = reorder_times.product_id
    where conditions.kind = 'replenishment' and order_products.reordered_at is null

),

catalogue_changes as (

    select
        {{ spelled('event') }} as change,
        {{ json_text('properties', '$.product_id') }} as product_id,
        try_cast({{ json_text('properties', '$.price') }} as decimal(18, 2)) as price,
        coalesce(
            upper({{ json_text('properties', '$.currency') }}), run.base_currency
        ) as currency,
        message_id,
        occurred_at
    from events
    cross join run
    where {{ spelled('event') }} in ('productpricechanged', 'productrestocked')

),

newest_changes as (

    select * from catalogue_changes
    qualify row_number() over (
        partition by change, product_id, currency
        order by occurred_at desc, message_id asc
    ) = 1

),

newest_views as (

    select * from product_interactions
    where action = 'viewed'
    qualify row_number() over (
        partition by profile_id, product_id order by occurred_at desc, message_id asc
    ) = 1

),

find_changed as (

    select
        conditions.*,
        views.profile_id,
        views.product_id,
        views.message_id,
        views.message_id || '␟' || changes.message_id as entry_key,
        changes.occurred_at
    from conditions
    inner join newest_changes as changes
        on
            case changes.change
                when 'productpricechanged' then 'price_drop' else 'back_in_stock'
            end = conditions.kind
    inner join newest_views as views
        on
            changes.product_id = views.product_id
            and changes.occurred_at > views.occurred_at
            and {{ add_seconds('views.occurred_at', 'conditions.within_seconds') }}
            > changes.occurred_at
    where
        (
            conditions.kind = 'back_in_stock'
            or (
                changes.currency = views.currency
                and changes.price
                <= views.price * (1 - conditions.minimum_value / 100)
            )
        )
        and not exists (
            select 1 from order_products
            where
                order_products.profile_id = views.profile_id
                and order_products.product_id = views.product_id
                and order_products.occurred_at >= views.occurred_at
        )

),

collect_facts as (

    select
        {{ key | join(', ') }},
        kind,
        profile_id,
        name as trigger_value,
        message_id as evidence_message_id,
        message_id as entry_key,
        occurred_at as triggered_at,
        product_id
    from find_events
    where event_count >= minimum_count and (minimum_count = 1 or newness = 1)

    union all

    {%- for kind, relation, value, began_at, product in [
        ('misstep', 'oldest_missteps', 'kind', 'opened_at', none),
        ('intent', 'intents', 'intent', 'intent_at', 'product_id'),
        ('phase', 'phases', 'phase_name', 'entered_at', none),
    ] %}
    select
        {{ key | join(', ') }},
        conditions.kind,
        {{ relation }}.profile_id,
        {{ relation }}.{{ value }} as trigger_value,
        {{ relation }}.evidence_message_id,
        {{ relation }}.evidence_message_id as entry_key,
        {{ relation }}.{{ began_at }} as triggered_at,
        {{ relation ~ '.' ~ product if product else 'cast(null as varchar)' }}
            as product_id
    from conditions
    inner join {{ relation }}
        on
            conditions.kind = '{{ kind }}'
            and (
                conditions.names is null
                or array_contains(conditions.names, {{ relation }}.{{ value }})
            )

    union all
    {% endfor %}
    -- no message shows since when a trait is so, or somebody belongs to an audience or
    -- has a score
    select
        {%- for column in key %}
        conditions.{{ column }},
        {%- endfor %}
        conditions.kind,
        condition_traits.profile_id,
        conditions.name as trigger_value,
        cast(null as varchar) as evidence_message_id,
        {{ surrogate_key(['condition_traits.profile_id', 'run.as_of']) }} as entry_key,
        run.as_of as triggered_at,
        cast(null as varchar) as product_id
    from conditions
    cross join run
    inner join condition_traits
        on
            conditions.journey = condition_traits.journey
            and conditions.place = condition_traits.place
            and conditions.step is not distinct from condition_traits.step
            and conditions.alternative = condition_traits.alternative
            and conditions.test = condition_traits.test

    union all

    select
        {{ key | join(', ') }},
        conditions.kind,
        audience_members.profile_id,
        audience_members.audience as trigger_value,
        cast(null as varchar) as evidence_message_id,
        {{ surrogate_key(['audience_members.profile_id', 'run.as_of']) }} as entry_key,
        run.as_of as triggered_at,
        cast(null as varchar) as product_id
    from conditions
    cross join run
    inner join audience_members
        on
            conditions.kind = 'audience'
            and array_contains(conditions.names, audience_members.audience)

    union all

    select
        {{ key | join(', ') }},
        conditions.kind,
        scores.profile_id,
        conditions.name as trigger_value,
        cast(null as varchar) as evidence_message_id,
        {{ surrogate_key(['scores.profile_id', 'run.as_of']) }} as entry_key,
        run.as_of as triggered_at,
        cast(null as varchar) as product_id
    from conditions
    cross join run
    inner join scores
        on
            conditions.kind = 'score'
            and case conditions.name
                when 'purchase_propensity' then scores.purchase_propensity
                else scores.churn_propensity
            end between conditions.minimum_value and conditions.maximum_value

    union all

    select
        {{ key | join(', ') }},
        list_days.kind,
        list_days.profile_id,
        list_days.name as trigger_value,
        cast(null as varchar) as evidence_message_id,
        {{ surrogate_key(['list_days.profile_id', 'list_days.falls_on']) }}
            as entry_key,
        run.as_of as triggered_at,
        cast(null as varchar) as product_id
    from list_days
    cross join run
    where cast(list_days.local_now as date) = list_days.falls_on

    union all

    select
        {{ key | join(', ') }},
        conditions.kind,
        profiles.profile_id,
        cast(conditions.begins_at as varchar) as trigger_value,
        cast(null as varchar) as evidence_message_id,
        {{ surrogate_key(['profiles.profile_id', 'conditions.begins_at']) }}
            as entry_key,
        run.as_of as triggered_at,
        cast(null as varchar) as product_id
    from conditions
    cross join run
    inner join profiles
        on
            conditions.kind = 'at'
            and conditions.begins_at <= profiles.local_now
            and {{ add_seconds('conditions.begins_at', 'conditions.within_seconds') }}
            > profiles.local_now

    union all

    select
        {{ key | join(', ') }},
        kind,
        profile_id,
        kind as trigger_value,
        message_id as evidence_message_id,
        message_id as entry_key,
        occurred_at as triggered_at,
        product_id
    from find_running_out
    cross join run
    where
        run.as_of >= {{ add_seconds('occurred_at', 'usual_seconds - wait_seconds') }}
        and run.as_of < {{ add_seconds('occurred_at', 'usual_seconds') }}
    qualify row_number() over (
        partition by {{ key | join(', ') }}, message_id
        order by usual_seconds asc, product_id asc
    ) = 1

    union all

    select
        {{ key | join(', ') }},
        kind,
        profile_id,
        kind as trigger_value,
        message_id as evidence_message_id,
        entry_key,
        occurred_at as triggered_at,
        product_id
    from find_changed

)

select * from collect_facts
