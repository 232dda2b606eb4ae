-- One row per move of a profile from one phase to another, with reason and evidence.
-- The rules in words, the first that fits:
--   1. an open misstep leads to 6 from anywhere, at once, and keeps there
--   2. put right, 6 leads back to where it came from; an order leads from 1–4 to 5
--   3. apart from moves to 5 and 6, a person moves once a day
--   4. forward: 1 engaged 2, 2 anything 3, 3 cart, checkout or considered again 4
--   5. back: 4 quiet 3; 2, 3, 5 and 7 silent 1
--   6. who is loyal moves from 5 to 7
{% set next_phase %}
    case
        when state.phase is null then 1
        when item.has_open_misstep and state.phase = 6 then null
        when item.has_open_misstep then 6
        when state.phase = 6 and state.previous_phase = 5 then 5
        when item.signal = 'ordered' and state.phase in (1, 2, 3, 4) then 5
        when state.moved_on = item.occurred_on then null
        when state.phase = 6 then state.previous_phase
        when state.phase = 1 and item.signal = 'engaged' then 2
        when
            state.phase = 2
            and item.signal in (
                'engaged', 'viewed_content', 'considered', 'carted', 'checked_out'
            )
            then 3
        when state.phase = 3 and item.signal in ('carted', 'checked_out') then 4
        when
            state.phase = 3 and item.signal = 'considered' and item.is_considered_again
            then 4
        when state.phase = 4 and item.signal = 'quiet' then 3
        when state.phase in (2, 3, 5, 7) and item.signal = 'silent' then 1
        when state.phase = 5 and item.is_loyal then 7
    end
{% endset %}
{% set first_state = make_struct({
    'phase': 'cast(null as integer)',
    'previous_phase': 'cast(null as integer)',
    'moved_on': 'cast(null as date)',
    'moves': empty_structs({'signal_number': 'bigint', 'phase': 'integer'}),
}) %}
{% set next_state = make_struct({
    'phase': 'next_phase',
    'previous_phase': 'state.phase',
    'moved_on':
        'case when next_phase in (5, 6) then state.moved_on '
        ~ 'when state.phase is not null then item.occurred_on end',
    'moves': 'array_append(state.moves, ' ~ make_struct({
        'signal_number': 'item.signal_number', 'phase': 'next_phase'
    }) ~ ')',
}) %}
with

steps as (

    select * from {{ ref('phase_inputs') }}

),

list_steps as (

    select
        profile_id,
        {{ ordered_list(make_struct({
            'signal_number': 'signal_number',
            'signal': 'signal',
            'occurred_on': 'cast(occurred_at as date)',
            'has_open_misstep': 'has_open_misstep',
            'is_considered_again': 'is_considered_again',
            'is_loyal': 'is_loyal',
        }), 'signal_number asc') }} as steps
    from steps
    group by profile_id

),

walk_through_phases as (

    select
        profile_id,
        {{ fold_list('steps', first_state, let(
            'next_phase',
            next_phase,
            'case when next_phase is null then state else ' ~ next_state ~ ' end'
        )) }} as last_state
    from list_steps

),

list_moves as (

    select
        profile_id,
        {{ unnest_items('last_state.moves') }} as move
    from walk_through_phases

),

describe_moves as (

    select
        {{ surrogate_key(['steps.profile_id', 'steps.signal_number']) }}
            as phase_change_id,
        steps.profile_id,
        cast(row_number() over moves as integer) as change_number,
        list_moves.move.phase,
        lag(list_moves.move.phase) over moves as previous_phase,
        steps.occurred_at as changed_at,
        steps.reason,
        steps.message_id as evidence_message_id
    from list_moves
    inner join steps
        on
            list_moves.profile_id = steps.profile_id
            and list_moves.move.signal_number = steps.signal_number
    window moves as (
        partition by steps.profile_id order by steps.signal_number asc
    )

),

derive_loyalty as (

    select
        phase_change_id,
        profile_id,
        change_number,
        phase,
        previous_phase,
        changed_at,
        case when phase = 7 and previous_phase = 5 then 'loyal' else reason end
            as reason,
        evidence_message_id
    from describe_moves

)

select * from derive_loyalty
