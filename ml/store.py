"""Fitted estimators on disk: one folder each, written whole or not at all.

Nothing is unpickled: skops rebuilds only the types listed here, and every file must
have the checksum that its metadata state.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import skops.io

from ml.drift import Spread
from ml.evaluation import CALIBRATION, Metrics
from ml.gate import Refusal
from ml.learners import HORIZON
from ml.lifetime import PurchaseTiming, SpendLevel
from ml.propensity import Estimator, Predictor, Spending, Target, library_versions

METADATA = "metadata.json"
ASIDE = ".damaged"
REASON = "reason.json"
# What is asked of every stored estimator, whether it is used or not.
ASKED = frozenset(
    {
        "estimator_id",
        "training_cutoff_at",
        "horizons",
        "recipe",
        "features",
        "libraries",
        "predictors",
    }
)

SUMMARY: dict[str, pl.DataType | type[pl.DataType]] = {
    "estimator_id": pl.String,
    "target": pl.String,
    "training_cutoff_at": pl.Datetime("us"),
    "classifier_cutoff_at": pl.Datetime("us"),
    "horizon_days": pl.Int64,
    "is_in_use": pl.Boolean,
    "scored_by": pl.String,
    "refusal_reason": pl.String,
    "refusal_detail": pl.String,
    "example_count": pl.Int64,
    "positive_count": pl.Int64,
    "feature_count": pl.Int64,
    "verdict": pl.String,
    "tested_cutoff_at": pl.Datetime("us"),
    "tested_cutoff_count": pl.Int64,
    "auc": pl.Float64,
    "log_loss": pl.Float64,
    "brier_score": pl.Float64,
    "calibration_error": pl.Float64,
    "calibration_in_the_large": pl.Float64,
    "baseline_auc": pl.Float64,
    "baseline_log_loss": pl.Float64,
    "baseline_brier_score": pl.Float64,
    "baseline_calibration_error": pl.Float64,
    "baseline_calibration_in_the_large": pl.Float64,
    "code_version": pl.String,
    "library_versions": pl.String,
}

# Beyond what skops trusts by itself: our learners and the parts of boosted trees. None
# of them runs code when it is rebuilt.
TRUSTED = frozenset(
    {
        "ml.learners.Blend",
        "ml.lifetime.PurchaseTimingClassifier",
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    }
)


class UntrustedEstimatorError(Exception):
    """What lies in the store was not written by it, or was changed since."""


# What reading a file that is not whole, or of another form, ends in.
UNREADABLE = (
    UntrustedEstimatorError,
    FileNotFoundError,
    NotADirectoryError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)


def save(estimator: Estimator, folder: Path) -> Path:
    """Write the estimator into `folder/<estimator_id>`; one that is there stays."""
    target = folder / estimator.estimator_id
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        for predictor in estimator.predictors:
            if predictor.classifier is not None:
                skops.io.dump(
                    predictor.classifier, partial / file_of(predictor.target.name)
                )
        (partial / METADATA).write_text(
            json.dumps(describe(estimator, partial), indent=2, default=str) + "\n"
        )
        for path in (*partial.iterdir(), partial):
            flush(path)
        partial.rename(target)
        flush(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def load(folder: Path, estimator_id: str) -> Estimator:
    """Read one estimator back.

    Raises:
        FileNotFoundError: if there is none of that id.
        UntrustedEstimatorError: if its files are not as written, hold other types than
            ours, or no estimator at all.
    """
    place = folder / estimator_id
    metadata = json.loads((place / METADATA).read_text())
    if metadata["estimator_id"] != estimator_id:
        raise UntrustedEstimatorError(f"{place} holds {metadata['estimator_id']}")
    spending = metadata["spending"]
    return Estimator(
        estimator_id=estimator_id,
        training_cutoff_at=datetime.fromisoformat(metadata["training_cutoff_at"]),
        horizons=tuple(metadata["horizons"]),
        recipe=metadata["recipe"],
        features=tuple(metadata["features"]),
        libraries=metadata["libraries"],
        code_version=metadata["code_version"],
        data_fingerprint=metadata["data_fingerprint"],
        predictors=tuple(
            load_predictor(place, predictor) for predictor in metadata["predictors"]
        ),
        spending=spending
        and Spending(
            PurchaseTiming(**spending["timing"]), SpendLevel(**spending["level"])
        ),
        spreads={
            feature: Spread(tuple(spread["edges"]), tuple(spread["shares"]))
            for feature, spread in metadata["spreads"].items()
        },
    )


def find(
    folder: Path,
    training_cutoff_at: datetime,
    horizons: tuple[int, ...],
    recipe: int,
    features: tuple[str, ...],
) -> Estimator | None:
    """The estimator trained at this cutoff for these horizons, recipe and features.

    One fitted by other library versions is as good as none; one that cannot be read is
    set aside, and as good as none too. Of several (an estimator
    trained again once missing examples had arrived) the one with most examples wins.
    """
    wanted = {
        "training_cutoff_at": training_cutoff_at.isoformat(),
        "horizons": list(horizons),
        "recipe": recipe,
        "features": list(features),
        "libraries": library_versions(),
    }
    fitting = [
        metadata
        for metadata in list_metadata(folder)
        if all(metadata[key] == value for key, value in wanted.items())
    ]
    fitting.sort(
        key=lambda metadata: (
            sum(predictor["example_count"] for predictor in metadata["predictors"]),
            metadata["estimator_id"],
        ),
        reverse=True,
    )
    for metadata in fitting:
        try:
            return load(folder, metadata["estimator_id"])
        except UNREADABLE as error:
            set_aside(folder / metadata["estimator_id"], error)
    return None


def find_last_good(
    folder: Path,
    before: datetime,
    most_age: timedelta,
    recipe: int,
    features: tuple[str, ...],
) -> dict[str, Predictor]:
    """By target, the newest predictor that passed the gate at an earlier cutoff.

    Only of the same recipe and libraries, with no feature that is there no more, and
    not older than `most_age`.
    """
    known = {*features, HORIZON}
    good: dict[str, Predictor] = {}
    for metadata in list_metadata(folder):
        cutoff_at = datetime.fromisoformat(metadata["training_cutoff_at"])
        if not before - most_age <= cutoff_at < before:
            continue
        if (metadata["recipe"], metadata["libraries"]) != (recipe, library_versions()):
            continue
        if not known >= set(metadata["features"]):
            continue
        place = folder / metadata["estimator_id"]
        try:
            good |= {
                predictor["target"]: load_predictor(place, predictor)
                for predictor in metadata["predictors"]
                if predictor["refusal"] is None
            }
        except UNREADABLE as error:
            set_aside(place, error)
    return good


def list_metadata(folder: Path) -> list[dict[str, Any]]:
    """What is known of each stored estimator, ordered by cutoff and id.

    One whose metadata cannot be read is set aside.
    """
    found = []
    for place in sorted(folder.glob("[!.]*")):
        try:
            found.append(read_metadata(place))
        except UNREADABLE as error:
            set_aside(place, error)
    return sorted(
        found, key=lambda item: (item["training_cutoff_at"], item["estimator_id"])
    )


def read_metadata(place: Path) -> dict[str, Any]:
    """The metadata of one estimator.

    Raises:
        UNREADABLE: if they are not whole, or another's.
    """
    metadata: dict[str, Any] = json.loads((place / METADATA).read_text())
    lacking = sorted(ASKED - metadata.keys())
    if lacking:
        raise UntrustedEstimatorError(f"{place} has no {', '.join(lacking)}")
    if metadata["estimator_id"] != place.name:
        raise UntrustedEstimatorError(f"{place} holds {metadata['estimator_id']}")
    datetime.fromisoformat(metadata["training_cutoff_at"])
    for predictor in metadata["predictors"]:
        lacking = sorted({"target", "refusal", "example_count"} - predictor.keys())
        if lacking:
            raise UntrustedEstimatorError(f"{place} has no {', '.join(lacking)}")
    return metadata


def set_aside(place: Path, error: Exception) -> None:
    """Move what cannot be read out of the way, with the reason; it is fitted anew."""
    aside = place.parent / ASIDE / place.name
    if aside.exists():
        shutil.rmtree(aside)
    aside.mkdir(parents=True)
    place.rename(aside / "estimator")
    reason = f"{type(error).__name__}: {error}"
    (aside / REASON).write_text(json.dumps(reason))


def set_aside_reasons(folder: Path) -> dict[str, str]:
    """Why, by id, estimators were set aside."""
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted((folder / ASIDE).glob(f"*/{REASON}"))
    }


def summarize(folder: Path, until: datetime, in_use: str) -> pl.DataFrame:
    """One row per estimator and target trained at a cutoff up to `until`.

    And one per estimator that was set aside, of which nothing can be read.
    """
    rows = [
        {
            **metadata,
            **predictor,
            "is_in_use": metadata["estimator_id"] == in_use,
            "refusal_reason": (predictor["refusal"] or {}).get("reason"),
            "refusal_detail": (predictor["refusal"] or {}).get("detail"),
            "feature_count": len(metadata["features"]),
            "library_versions": json.dumps(metadata["libraries"], sort_keys=True),
            **(predictor["metrics"] or {}),
            **{
                f"baseline_{name}": value
                for name, value in (predictor["baseline_metrics"] or {}).items()
            },
        }
        for metadata in list_metadata(folder)
        if datetime.fromisoformat(metadata["training_cutoff_at"]) <= until
        for predictor in metadata["predictors"]
    ] + [
        {
            "estimator_id": estimator_id,
            "target": "all",
            "is_in_use": False,
            "refusal_reason": "damaged",
            "refusal_detail": reason,
        }
        for estimator_id, reason in set_aside_reasons(folder).items()
    ]
    moments = [name for name, kind in SUMMARY.items() if kind == pl.Datetime("us")]
    texts = {**SUMMARY, **dict.fromkeys(moments, pl.String)}
    return pl.DataFrame(
        [{name: row.get(name) for name in SUMMARY} for row in rows], schema=texts
    ).with_columns(pl.col(moments).str.to_datetime(time_unit="us"))


def load_predictor(place: Path, metadata: dict[str, Any]) -> Predictor:
    """One target's predictor, its classifier checked before anything is rebuilt."""
    classifier = None
    if metadata["sha256"] is not None:
        classifier = load_classifier(
            place / file_of(metadata["target"]), metadata["sha256"]
        )
    tested_cutoff_at = metadata["tested_cutoff_at"]
    return Predictor(
        target=Target(metadata["target"], metadata["horizon_days"]),
        classifier=classifier,
        classifier_cutoff_at=datetime.fromisoformat(metadata["classifier_cutoff_at"]),
        base_rate=metadata["base_rate"],
        scored_by=metadata["scored_by"],
        refusal=metadata["refusal"] and Refusal(**metadata["refusal"]),
        example_count=metadata["example_count"],
        positive_count=metadata["positive_count"],
        tested_cutoff_at=tested_cutoff_at and datetime.fromisoformat(tested_cutoff_at),
        tested_cutoff_count=metadata["tested_cutoff_count"],
        verdict=metadata["verdict"],
        metrics=metadata["metrics"] and Metrics(**metadata["metrics"]),
        baseline_metrics=metadata["baseline_metrics"]
        and Metrics(**metadata["baseline_metrics"]),
        calibration=pl.DataFrame(metadata["calibration"], schema=CALIBRATION),
        typical=np.array(
            [[np.nan if value is None else value for value in metadata["typical"]]]
        ),
    )


def load_classifier(path: Path, sha256: str) -> Any:
    """Rebuild a classifier from trusted types alone.

    Raises:
        UntrustedEstimatorError: if the file is not the one that was written, is no
            skops file (a pickle, say), or holds a type no estimator of ours has.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UntrustedEstimatorError(f"{path} is not the file that was written")
    try:
        foreign = set(skops.io.get_untrusted_types(data=content)) - TRUSTED
    except Exception as error:
        raise UntrustedEstimatorError(f"{path} is no skops file: {error}") from error
    if foreign:
        raise UntrustedEstimatorError(f"{path} holds {', '.join(sorted(foreign))}")
    try:
        return skops.io.loads(content, trusted=sorted(TRUSTED))
    except Exception as error:
        raise UntrustedEstimatorError(f"{path} cannot be rebuilt: {error}") from error


def describe(estimator: Estimator, folder: Path) -> dict[str, Any]:
    """The metadata of an estimator whose classifiers lie in `folder`."""
    return {
        "estimator_id": estimator.estimator_id,
        "training_cutoff_at": estimator.training_cutoff_at.isoformat(),
        "horizons": estimator.horizons,
        "recipe": estimator.recipe,
        "features": estimator.features,
        "data_fingerprint": estimator.data_fingerprint,
        "libraries": estimator.libraries,
        "code_version": estimator.code_version,
        "spending": estimator.spending and asdict(estimator.spending),
        "spreads": {
            feature: asdict(spread) for feature, spread in estimator.spreads.items()
        },
        "predictors": [
            {
                "target": predictor.target.name,
                "horizon_days": predictor.target.horizon_days,
                "sha256": checksum(folder / file_of(predictor.target.name)),
                "classifier_cutoff_at": predictor.classifier_cutoff_at.isoformat(),
                "base_rate": predictor.base_rate,
                "scored_by": predictor.scored_by,
                "refusal": predictor.refusal and asdict(predictor.refusal),
                "example_count": predictor.example_count,
                "positive_count": predictor.positive_count,
                "tested_cutoff_at": predictor.tested_cutoff_at
                and predictor.tested_cutoff_at.isoformat(),
                "tested_cutoff_count": predictor.tested_cutoff_count,
                "verdict": predictor.verdict,
                "metrics": predictor.metrics and asdict(predictor.metrics),
                "baseline_metrics": predictor.baseline_metrics
                and asdict(predictor.baseline_metrics),
                "calibration": predictor.calibration.to_dicts(),
                "typical": [
                    None if np.isnan(value) else value
                    for value in predictor.typical[0].tolist()
                ],
            }
            for predictor in estimator.predictors
        ],
    }


def checksum(path: Path) -> str | None:
    """The SHA-256 of a file; none where there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def file_of(target: str) -> str:
    """The file name of a target's classifier."""
    return f"{target}.skops"


def flush(path: Path) -> None:
    """Make a file or folder survive a crash that follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
