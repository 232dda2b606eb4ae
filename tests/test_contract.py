"""The names others rely on exist, with rows, after the demo."""

import pytest

from tests.conftest import TestHome

CONTRACT = {
    "raw.files": "file_id path sha256 row_count rejected_count landed_at",
    "raw.events": """message_id type event anonymous_id user_id occurred_at received_at
        context properties traits file_id""",
    "raw.rejected_events": "file_id line_number reason raw",
    "staging.stg_orders": """order_id message_id ordered_at status revenue_amount
        currency store_id""",
    "staging.stg_refunds": "refund_id order_id refunded_at refund_amount",
    "identity.identity_map": "identifier_type identifier profile_id linked_at",
    "identity.identity_conflicts": "identifier_type identifier reason evidence_count",
    "profiles.profiles": """profile_id first_seen_at last_seen_at email phone timezone
        order_count revenue_amount""",
    "profiles.rfm": """profile_id recency_days frequency monetary_amount recency_score
        frequency_score monetary_score rfm_segment""",
    "profiles.affinities": "profile_id category affinity",
    "profiles.intents": "profile_id intent evidence_message_id intent_at",
    "profiles.consents": """profile_id channel purpose status lawful_basis
        policy_version message_id updated_at""",
    "profiles.features": "profile_id cutoff_at",
    "ml.scores": """profile_id purchase_propensity churn_propensity estimator_id
        scored_by as_of""",
    "ml.horizon_scores": "profile_id horizon_days purchase_propensity scored_by",
    "ml.score_reasons": "profile_id target rank subject effect reason",
    "ml.estimators": """estimator_id target training_cutoff_at is_in_use scored_by
        refusal_reason auc log_loss baseline_log_loss code_version library_versions""",
    "ml.calibration": "estimator_id target bin predicted_rate observed_rate lift",
    "ml.drift": "estimator_id kind name stability_index is_drifted",
    "ml.channel_scores": "profile_id channel channel_propensity",
    "ml.send_time_scores": """profile_id weekday_group slot slot_rank
        send_time_propensity""",
    "decisions.phases": """profile_id phase phase_name previous_phase entered_at reason
        evidence_message_id""",
    "decisions.enrollments": """enrollment_id journey profile_id entered_at step state
        exited_at exit_reason""",
    "decisions.candidates": """candidate_id as_of enrollment_id profile_id journey step
        channel decision_id""",
    "decisions.decisions": """decision_id enrollment_id as_of profile_id journey step
        channel verdict reason evidence_message_id rule_version""",
    "decisions.send_list": """send_id decision_id as_of profile_id channel journey step
        content_id address choice_probability""",
    "decisions.send_choices": "send_id channel choice_probability is_chosen",
    "activations.sends": """send_id channel destination state reason enqueued_at
        sent_at""",
    "attribution.conversions": """conversion_id profile_id order_id converted_at
        revenue_amount""",
    "attribution.touchpoints": """touchpoint_id profile_id channel campaign journey step
        touched_at interaction""",
    "attribution.credits": """conversion_id touchpoint_id attribution_model credit
        revenue_amount""",
    "attribution.removal_effects": "markov_order channel removal_effect share",
    "attribution.channel_performance": """channel attribution_model conversion_count
        revenue_amount""",
    "attribution.campaign_performance": "attribution_model revenue_amount",
    "attribution.segment_performance": "attribution_model revenue_amount",
    "attribution.step_performance": "attribution_model revenue_amount",
    "attribution.path_performance": "attribution_model revenue_amount",
    "attribution.profile_performance": "attribution_model revenue_amount",
    "attribution.policy_values": "policy answer_rate answer_rate_low answer_rate_high",
    "attribution.lift": """treated_count control_count conversion_rate_treated
        conversion_rate_control incremental_lift lift_low lift_high
        incremental_revenue_amount attributed_revenue_amount""",
}


@pytest.mark.parametrize("table", CONTRACT)
def test_contract_table_is_filled_and_has_its_columns(
    demo_home: TestHome, table: str
) -> None:
    frame = demo_home.read(f"select * from {table}")
    assert set(CONTRACT[table].split()) <= set(frame.columns)
    assert frame.height > 0


def test_the_published_copy_equals_the_warehouse(demo_home: TestHome) -> None:
    from tests.tables import fingerprints

    settings = demo_home.settings
    assert fingerprints(settings.published) == fingerprints(settings.warehouse)
