-- One row per profile that is no hub: the phase it is in, since when and why.
with

changes as (

    select * from {{ ref('phase_changes') }}

),

phase_names as (

    select * from {{ ref('phase_names') }}

),

newest_changes as (

    select * from changes
    qualify row_number() over (
        partition by profile_id order by change_number desc
    ) = 1

),

name_phases as (

    select
        newest_changes.profile_id,
        newest_changes.phase,
        phase_names.phase_name,
        newest_changes.previous_phase,
        newest_changes.changed_at as entered_at,
        newest_changes.reason,
        newest_changes.evidence_message_id
    from newest_changes
    inner join phase_names on newest_changes.phase = phase_names.phase

)

select * from name_phases
