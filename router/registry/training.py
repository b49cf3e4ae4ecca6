"""Trains, logs and registers the two models of the demo. A process of its own: `python -m router.registry.training`.

Rules:
1. Honest: a data set that ships with scikit-learn under its own name, and metrics on rows the models never saw.
2. Complete lineage: signature, input example, requirements, data set, and the git commit where there is a checkout.
3. Only what is missing is registered, so that a run that was cut off can be repeated.
4. The held-out rows are written last, whole or not at all: their file says that everything before them is done.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_SEED = 7
_HELD_OUT = 0.3
_GIT_COMMIT = "mlflow.source.git.commit"
_EXAMPLE_ROWS = 3
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


class Rows(NamedTuple):
    """The data set, parted: what models learn from and what they are judged by."""

    train: Any
    train_labels: Any
    held_out: Any
    held_out_labels: Any


def main(arguments: Sequence[str]) -> int:
    """Registers what is missing, and writes the held-out rows as JSON: `columns`, `rows`, `labels`."""
    parser = argparse.ArgumentParser(prog="python -m router.registry.training")
    parser.add_argument("--registry", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    os.environ.update(_QUIET)
    # Each is advice to whoever trains a model for production, on data of another kind than this.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"mlflow\..*")
    rows = _rows()
    _register(asked.registry, asked.name, rows)
    _write(asked.held_out, rows)
    return 0


def _rows() -> Rows:
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    features, labels = load_breast_cancer(as_frame=True, return_X_y=True)
    train, held_out, train_labels, held_out_labels = train_test_split(
        features, labels, test_size=_HELD_OUT, random_state=_SEED, stratify=labels
    )
    return Rows(train, train_labels, held_out, held_out_labels)


def _models() -> list[tuple[str, Any]]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return [
        ("logistic regression", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
        ("random forest", RandomForestClassifier(n_estimators=30, random_state=_SEED)),
    ]


def _register(registry: str, name: str, rows: Rows) -> None:
    import mlflow

    mlflow.set_tracking_uri(registry)
    mlflow.set_registry_uri(registry)
    mlflow.set_experiment(name)
    there = _registered(mlflow.MlflowClient(), name)
    for number, (title, model) in enumerate(_models(), start=1):
        if number > there:
            _train(name, title, model, rows)


def _registered(client: Any, name: str) -> int:
    return len(client.search_model_versions(f"name = '{name}'"))


def _train(name: str, title: str, model: Any, rows: Rows) -> None:
    import mlflow

    with mlflow.start_run(run_name=title, tags=_commit_tag()):
        model.fit(rows.train, rows.train_labels)
        mlflow.log_input(_dataset(rows), context="training")
        mlflow.log_metrics(_metrics(model, rows))
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(rows.train, model.predict(rows.train)),
            input_example=rows.train.head(_EXAMPLE_ROWS),
            # Inferring them takes longer than everything else here together.
            pip_requirements=_requirements(),
            skops_trusted_types=["sklearn.tree._tree.Tree"],
            registered_model_name=name,
        )


def _dataset(rows: Rows) -> Any:
    import mlflow

    return mlflow.data.from_pandas(
        rows.train.assign(target=rows.train_labels),
        source="sklearn.datasets.load_breast_cancer",
        targets="target",
        name="breast_cancer",
    )


def _metrics(model: Any, rows: Rows) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    likely = model.predict_proba(rows.held_out)
    return {
        "accuracy": float(accuracy_score(rows.held_out_labels, model.predict(rows.held_out))),
        "auc": float(roc_auc_score(rows.held_out_labels, likely[:, 1])),
        "log_loss": float(log_loss(rows.held_out_labels, likely)),
    }


def _requirements() -> list[str]:
    import pandas
    import sklearn
    import skops

    return [f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}", f"pandas=={pandas.__version__}"]


def _commit_tag() -> dict[str, str]:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {_GIT_COMMIT: found.stdout.strip()}


def _write(path: Path, rows: Rows) -> None:
    content = {
        "columns": list(rows.held_out.columns),
        "rows": rows.held_out.to_numpy().tolist(),
        "labels": rows.held_out_labels.to_list(),
    }
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
