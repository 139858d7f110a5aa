"""scikit-learn's text vectorisers answer the same as graphs, in any script."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from loopwright.core import Invalid
from loopwright.models import Layout, build_bundle, predict_frame

WORDS = [
    "good",
    "Bad",
    "late",
    "plane,",
    "storm's",
    "x",
    "RAIN",
    "Überflug",
    "éte",
    "задержка",
    "遅延",
    "4711",
    "a_b",
    "?!",
]
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(1, 9))) for _ in range(400)]
STORMY = np.array(["storm" in text for text in TEXTS]).astype(int)
ODD = ["", " ", "x", "?!", "ÜBERFLUG überflug", "late\tlate\nlate", "nothing known here", "задержка" * 40]


@pytest.mark.parametrize(
    "vectoriser",
    [
        CountVectorizer(),
        TfidfVectorizer(ngram_range=(1, 2)),
        TfidfVectorizer(lowercase=False, max_features=8),
        CountVectorizer(token_pattern=r"(?u)\b\w+\b"),
        TfidfVectorizer(analyzer="char", ngram_range=(2, 3)),
    ],
    ids=["words", "pairs of words", "few words as they are", "single letters too", "letters"],
)
def test_a_vectoriser_reads_one_column_of_text(vectoriser: Any) -> None:
    model = make_pipeline(vectoriser, LogisticRegression()).fit(TEXTS, STORMY)
    made = build_bundle(model, pl.DataFrame({"text": TEXTS}))
    assert made.manifest.layout is Layout.COLUMNS
    assert made.manifest.parity.max_abs < 1e-5
    given = predict_frame(made.predictor(), pl.DataFrame({"text": ODD}))
    np.testing.assert_allclose(given["probability"], model.predict_proba(ODD)[:, 1], atol=1e-5)


def test_text_stands_beside_numbers_and_categories() -> None:
    rows = pl.DataFrame({"text": TEXTS, "wind": RNG.normal(size=400), "carrier": RNG.choice(["AA", "UA"], 400)})
    columns = ColumnTransformer(
        [("text", TfidfVectorizer(), "text"), ("n", StandardScaler(), ["wind"]), ("c", OneHotEncoder(), ["carrier"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(rows, STORMY)
    made = build_bundle(model, rows)
    assert made.manifest.parity.max_abs < 1e-5
    np.testing.assert_allclose(
        predict_frame(made.predictor(), rows)["probability"], model.predict_proba(rows)[:, 1], atol=1e-5
    )


def test_a_vectoriser_without_an_onnx_form_is_refused_by_name() -> None:
    model = make_pipeline(HashingVectorizer(n_features=64), LogisticRegression()).fit(TEXTS, STORMY)
    with pytest.raises(Invalid, match="HashingVectorizer"):
        build_bundle(model, pl.DataFrame({"text": TEXTS}))
