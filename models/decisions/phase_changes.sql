-- One row per move of a profile from one phase to another, with its reason and evidence.
-- The table of phases in words:
--   1. an open misstep leads to 6 from anywhere, at once; once put right, back
--   2. an order leads to 5 from 1 to 4, at once
--   3. apart from these a person moves at most once a day
--   4. forward: 1 engaged 2 anything 3 cart, checkout or considered again 4
--   5. back: 4 quiet 3; 2, 3, 5 and 7 silent 1
--   6. 5 leads to 7 for who is loyal
{% set next_phase -%}
    case
        when state.phase is null then 1
        when item.has_open_misstep and state.phase <> 6 then 6
        when item.has_open_misstep then null
        when state.phase = 6 and state.previous_phase = 5 then 5
        when item.signal = 'ordered' and state.phase in (1, 2, 3, 4) then 5
        when state.moved_on = cast(item.occurred_at as date) then null
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
{%- endset %}
{% set change = make_struct({
    'change_number': 'state.change_number + 1',
    'phase': 'next_phase',
    'previous_phase': 'state.phase',
    'changed_at': 'item.occurred_at',
    'reason': "case
        when next_phase = 7 and state.phase = 5 then 'loyal'
        else item.reason
    end",
    'evidence_message_id': 'item.message_id',
}) %}
{% set next_state = make_struct({
    'change_number': 'state.change_number + 1',
    'phase': 'next_phase',
    'previous_phase': 'state.phase',
    'moved_on': 'case
        when state.phase is null or next_phase in (5, 6) then state.moved_on
        else cast(item.occurred_at as date)
    end',
    'changes': 'array_append(state.changes, ' ~ change ~ ')',
}) %}
{% set first_state = make_struct({
    'change_number': 'cast(0 as integer)',
    'phase': 'cast(null as integer)',
    'previous_phase': 'cast(null as integer)',
    'moved_on': 'cast(null as date)',
    'changes': empty_structs({
        'change_number': 'integer',
        'phase': 'integer',
        'previous_phase': 'integer',
        'changed_at': 'timestamp',
        'reason': dbt.type_string(),
        'evidence_message_id': dbt.type_string(),
    }),
}) %}
with

steps as (

    select * from {{ ref('phase_steps') }}

),

list_steps as (

    select
        profile_id,
        {{ ordered_list(make_struct({
            'signal': 'signal',
            'message_id': 'message_id',
            'occurred_at': 'occurred_at',
            'reason': 'reason',
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

list_changes as (

    select
        profile_id,
        {{ unnest_items('last_state.changes') }} as change
    from walk_through_phases

),

name_fields as (

    select
        {{ surrogate_key(['profile_id', 'change.change_number']) }} as phase_change_id,
        profile_id,
        change.change_number as change_number,
        change.phase as phase,
        change.previous_phase as previous_phase,
        change.changed_at as changed_at,
        change.reason as reason,
        change.evidence_message_id as evidence_message_id
    from list_changes

)

select * from name_fields
