"""Will this flight arrive more than 15 minutes late? Judged at its scheduled departure, from what is known by then.

What is known: the schedule, the weather observed at the airport, and how yesterday's flights of the same carrier,
route, aircraft and airport went. What is not known, and never used: how this flight itself goes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl
from flight_features import (
    INPUTS,
    LATE_MINUTES,
    OBSERVED,
    PAST,
    SUMMARY,
    VIEWS,
    as_inputs,
    scheduled,
    summary_of,
    turn_after,
)

import loopwright as lw
from loopwright.stats import Sufficient, auc_interval, classification_metrics, mean_interval
from loopwright.track import RunInput

HOLDOUT_DAYS = 10
BASELINE_INPUTS = ("hour", "carrier_day__late_share", "airport_day__late_share")


@lw.step
def examples(flights: str, weather: str, until: str, days: int) -> pl.DataFrame:
    """Flights of the last `days` before `until`, each with what was known at its departure and how it went."""
    rows, _ = _window(flights, until, days)
    return _labelled(_point_in_time(rows, flights, weather))


@lw.step
def shortcut_examples(flights: str, weather: str, until: str, days: int) -> pl.DataFrame:
    """The same, "simplified": the daily summaries are joined by date instead of by what was known at the time.

    This is the mistake that this demo pushes on purpose. A flight's own day is in its features, so that every offline
    figure looks splendid; at the moment of a prediction that day has not happened yet.
    """
    rows, raw = _window(flights, until, days)
    frame = rows.with_columns(as_of=turn_after(pl.col("scheduled_at"))).collect()
    for view, keys in PAST.items():
        summary = summary_of(raw, keys).rename({name: f"{view}__{name}" for name in SUMMARY}).collect()
        frame = frame.join(summary, on=[*keys, "as_of"], how="left")
    ws = lw.context().ws
    joined = ws.features.historical(frame, ["weather"], timestamp="scheduled_at", sources={"weather": weather})
    return _labelled(joined.collect())


def _window(flights: str, until: str, days: int) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    end = datetime.fromisoformat(until)
    raw = lw.context().ws.datasets.scan(flights).filter(pl.col("known_at") <= end)
    recent = raw.filter(pl.col("scheduled_at") > end - timedelta(days=days), pl.col("arr_delay").is_not_null())
    return scheduled(recent), raw


def _point_in_time(rows: pl.LazyFrame, flights: str, weather: str) -> pl.DataFrame:
    ws, sources = lw.context().ws, {"flights": flights, "weather": weather}
    joined = ws.features.historical(rows, "yesterday", timestamp="scheduled_at", sources=sources, full_names=True)
    observed = ws.features.historical(joined, ["weather"], timestamp="scheduled_at", sources=sources)
    return pl.DataFrame(observed.collect())


def _labelled(rows: pl.DataFrame) -> pl.DataFrame:
    late = (rows["arr_delay"] > LATE_MINUTES).cast(pl.Int64).alias("late")
    columns = as_inputs(rows).with_columns(rows["scheduled_at"], rows["flight_id"], late)
    return columns.sort("scheduled_at", "flight_id")


@lw.step
def split(table: pl.DataFrame, until: str) -> dict[str, pl.DataFrame]:
    """The last days are held out: a model is judged on flights later than all that it learned from."""
    cut = datetime.fromisoformat(until) - timedelta(days=HOLDOUT_DAYS)
    return {
        "train": table.filter(pl.col("scheduled_at") <= cut),
        "holdout": table.filter(pl.col("scheduled_at") > cut),
    }


@lw.step
def fit(train: pl.DataFrame, trees: int, leaves: int, learning_rate: float, min_flights: int) -> Any:
    """Gradient-boosted trees."""
    model = _classifier(trees, leaves, learning_rate, min_flights)
    return model.fit(train.select(INPUTS).to_numpy(), train["late"].to_numpy(), feature_name=list(INPUTS))


@lw.step
def tune(parts: dict[str, pl.DataFrame], trees: int, leaves: int, learning_rate: float, min_flights: int) -> float:
    """Fit, telling the search every ten trees how it goes; a hopeless trial is pruned."""
    train, holdout = parts["train"], parts["holdout"]
    truth = holdout["late"].to_numpy()

    def watch(progress: Any) -> None:
        if progress.iteration % 10 == 9:
            lw.context().report(progress.evaluation_result_list[0][2], progress.iteration + 1)

    model = _classifier(trees, leaves, learning_rate, min_flights)
    model.fit(
        train.select(INPUTS).to_numpy(),
        train["late"].to_numpy(),
        eval_set=[(holdout.select(INPUTS).to_numpy(), truth)],
        eval_metric="binary_logloss",
        callbacks=[watch],
    )
    chances = model.predict_proba(holdout.select(INPUTS).to_numpy())[:, 1]
    scores = measured(truth, chances)
    lw.context().log_metrics(scores)
    return scores["brier"]


@lw.step
def fit_baseline(train: pl.DataFrame) -> Any:
    """What anybody would try first: a logistic regression on yesterday's share of late flights and the hour."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    return model.fit(train.select(BASELINE_INPUTS).to_numpy(), train["late"].to_numpy())


@lw.step(effect=True)
def register_baseline(model: Any, train: pl.DataFrame, scores: dict[str, float]) -> str:
    """Keep it as a model of its own, so that a version can be compared with it on the same flights."""
    step = lw.context()
    inputs = train.select(BASELINE_INPUTS)
    sample = inputs.tail(2000)
    bundle = lw.build_bundle(model, sample, task="binary", target="late", profile=inputs, nullable=BASELINE_INPUTS)
    version = step.ws.models.register("delay_baseline", bundle, run=step.run_id, metrics=scores)
    return str(version.ref)


@lw.step
def evaluate(model: Any, holdout: pl.DataFrame, inputs: list[str]) -> dict[str, float]:
    """How good it is on the flights that were held out, with intervals."""
    chances = model.predict_proba(holdout.select(inputs).to_numpy())[:, 1]
    scores = measured(holdout["late"].to_numpy(), chances)
    lw.context().log_metrics(scores)
    return scores


def measured(truth: Any, chances: Any) -> dict[str, float]:
    """The usual metrics, and 95 % intervals of the Brier score and of the area under the ROC curve."""
    brier = mean_interval(Sufficient.of((chances - truth) ** 2), 0.05)
    auc = auc_interval(truth, chances, 0.05)
    intervals = {
        "brier_lower": brier.lower,
        "brier_upper": brier.upper,
        "brier_n": float(brier.n),
        "auc_lower": auc.lower,
        "auc_upper": auc.upper,
        "auc_n": float(auc.n),
    }
    return {**classification_metrics(truth, chances), **intervals}


@lw.step(effect=True)
def register(
    model: Any, train: pl.DataFrame, holdout: pl.DataFrame, scores: dict[str, float], flights: str, weather: str
) -> dict[str, str]:
    """Make a bundle, prove that it answers as the model does, and give it the next version number."""
    step = lw.context()
    views = [step.ws.features.get(view.name).ref for view in (*VIEWS, OBSERVED)]
    step.ws.runs.log_inputs(step.run_id, [RunInput(ref, "features") for ref in views])
    kept = step.ws.datasets.ingest("delay_holdout", holdout, message="what the newest version was judged on")
    sample = holdout.select(INPUTS).head(2000)
    with_gaps = sample.vstack(pl.DataFrame({name: [None] for name in INPUTS}, schema=sample.schema))
    bundle = lw.build_bundle(
        model,
        with_gaps,
        task="binary",
        target="late",
        profile=train.select(INPUTS),
        nullable=INPUTS,
        metrics=scores,
        training_data=[flights, weather],
        features=_looked_up(flights),
    )
    version = step.ws.models.register(
        "delay",
        bundle,
        run=step.run_id,
        metrics=scores,
        training_data=[flights, weather],
        tags={"holdout": kept.ref},
        description=f"late by more than {LATE_MINUTES} minutes; trained on {train.height} flights",
    )
    return {"model": version.ref, "holdout": kept.ref}


def _looked_up(flights: str) -> list[lw.features.FeatureLookup]:
    """How an endpoint finds what is known of a flight, by its carrier, route, aircraft and airport."""
    ws = lw.context().ws
    rows = scheduled(ws.datasets.scan(flights))
    yesterday = ws.features.lookup(rows, "yesterday", "scheduled_at", full_names=True)
    return [yesterday, ws.features.lookup(rows, ["weather"], "scheduled_at")]


@lw.pipeline
def train(
    until: str,
    flights: str = "dataset:flights",
    weather: str = "dataset:weather",
    days: int = 150,
    joined: Literal["as_known", "by_date"] = "as_known",
    trees: int = 120,
    leaves: int = 31,
    learning_rate: float = 0.06,
    min_flights: int = 100,
) -> dict[str, Any]:
    """Examples → fit → evaluate → register. Who has examples joined `by_date` makes the mistake described above."""
    join = {"as_known": examples, "by_date": shortcut_examples}[joined]
    parts = split(join(flights, weather, until, days), until)
    model = fit(parts["train"], trees, leaves, learning_rate, min_flights)
    scores = evaluate(model, parts["holdout"], list(INPUTS))
    version = register(model, parts["train"], parts["holdout"], scores, flights, weather)
    return {"model": version["model"], "holdout": version["holdout"], "scores": scores}


@lw.pipeline
def candidate(
    until: str,
    flights: str = "dataset:flights",
    weather: str = "dataset:weather",
    days: int = 150,
    trees: int = 120,
    leaves: int = 31,
    learning_rate: float = 0.06,
    min_flights: int = 100,
) -> dict[str, Any]:
    """One trial of the search: nothing is registered."""
    parts = split(examples(flights, weather, until, days), until)
    return {"brier": tune(parts, trees, leaves, learning_rate, min_flights)}


@lw.pipeline
def baseline(
    until: str, flights: str = "dataset:flights", weather: str = "dataset:weather", days: int = 150
) -> dict[str, Any]:
    """What every version must beat."""
    parts = split(examples(flights, weather, until, days), until)
    model = fit_baseline(parts["train"])
    scores = evaluate(model, parts["holdout"], list(BASELINE_INPUTS))
    return {"model": register_baseline(model, parts["train"], scores), "scores": scores}


def _classifier(trees: int, leaves: int, learning_rate: float, min_flights: int) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        n_estimators=trees,
        num_leaves=leaves,
        learning_rate=learning_rate,
        min_child_samples=min_flights,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.7,
        n_jobs=2,
        random_state=7,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    )


# ---- The loop and its monitor: thresholds are fixed here, before anything has happened ------------------------------

# One value a day: a week holds too few of them to be compared with a distribution.
PER_DAY = (*(f"airport_day__{name}" for name in SUMMARY), *(f"carrier_day__{name}" for name in SUMMARY), "weekday")

MONITOR = lw.Monitor(
    name="delay",
    endpoint="delay",
    window_s=7 * 86_400,
    label_delay_s=2 * 86_400,
    owner="flight operations",
    drift=lw.monitor.DriftPolicy(ignore=PER_DAY, alpha=0.01, min_effect=0.25, min_features=2),
    # 0.177 is what one gets by always answering with the share of late flights of last winter and spring, 23 %.
    performance=lw.monitor.PerformancePolicy(metric="brier", limit=0.177, alpha=0.05, consecutive=2),
)
LOOP = lw.Loop(
    name="delay",
    endpoint="delay",
    model="delay",
    pipeline="delay:train",
    params={"until": "{now}"},
    triggers=(lw.loop.on_alert("delay", about="performance"),),
    gates=(
        lw.release.Beats("brier", against="baseline", min_effect=-0.005),  # certainly not worse by more than this
        lw.release.Beats("brier", against="champion"),  # certainly better, on the same flights
    ),
    rollout=lw.release.RolloutPlan(steps=(0.25, 0.5), max_loss_increase=0.015, min_labels=500, min_step_s=2 * 86_400),
    guard=lw.release.Guard(duration_s=3 * 86_400),
    cooldown_s=21 * 86_400,
)
