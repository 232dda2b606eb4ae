-- One row per profile and thing it considers without having bought since: a category,
-- or a product where no category is known.
with

product_interactions as (

    select * from {{ ref('product_interactions') }}

),

purchase_histories as (

    select * from {{ ref('purchase_histories') }}

),

run as (

    select * from {{ ref('stg_run') }}

),

rules as (

    select * from {{ ref('profile_rules') }}

),

count_views as (

    select
        product_interactions.profile_id,
        product_interactions.session_id,
        coalesce(
            'category:' || product_interactions.category,
            'product:' || product_interactions.product_id
        ) as comparable,
        count(*) as view_count,
        max_by(
            product_interactions.message_id,
            (product_interactions.occurred_at, product_interactions.message_id)
        ) as message_id,
        max(product_interactions.occurred_at) as viewed_at
    from product_interactions
    cross join run
    cross join rules
    left join purchase_histories
        on product_interactions.profile_id = purchase_histories.profile_id
    where
        product_interactions.action = 'viewed'
        and (
            purchase_histories.last_placed_at is null
            or product_interactions.occurred_at > purchase_histories.last_placed_at
        )
        and product_interactions.occurred_at > {{ add_days(
            'run.as_of', '-rules.considering_lookback_days'
        ) }}
    group by all

),

count_sessions as (

    select
        profile_id,
        comparable,
        count(*) as session_count,
        max(view_count) as most_views_in_session,
        max_by(message_id, (viewed_at, message_id)) as message_id,
        max_by(message_id, (viewed_at, message_id)) filter (
            where view_count >= rules.considering_category_views
        ) as repeated_message_id
    from count_views
    cross join rules
    group by profile_id, comparable

),

find_considered as (

    select
        count_sessions.profile_id,
        count_sessions.comparable,
        count_sessions.session_count,
        count_sessions.most_views_in_session,
        case
            when count_sessions.session_count >= rules.considering_sessions
                then 'came_back_without_buying'
            else 'viewed_again_in_session'
        end as reason,
        case
            when count_sessions.session_count >= rules.considering_sessions
                then count_sessions.message_id
            else count_sessions.repeated_message_id
        end as message_id
    from count_sessions
    cross join rules
    where
        count_sessions.session_count >= rules.considering_sessions
        or count_sessions.most_views_in_session >= rules.considering_category_views

)

select * from find_considered
