"""Trains and registers the small models that tests use. A process of its own: it imports MLflow.

Rules:
1. `wine` 1 (logistic regression) and 2 (decision tree) are good; the aliases `champion` → 1 and `eu_west_champion` → 2.
2. `wine` 3 raises ValueError inside the model for any row whose alcohol is negative, and answers all others with 0.
3. `broken` 1 needs a library that nobody has; 2 has no MLmodel; 3 fails on its own input example.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

_MOODY = """
import mlflow

class Moody(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if (model_input["alcohol"] < 0).any():
            raise ValueError("alcohol cannot be negative")
        return [0] * len(model_input)

mlflow.models.set_model(Moody())
"""
_STUBBORN = """
import mlflow

class Stubborn(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        raise RuntimeError("not today")

mlflow.models.set_model(Stubborn())
"""
_HOMELESS = """
flavors:
  python_function:
    loader_module: no_such_library
    python_version: 3.11.0
"""


def main(registry: str, out: Path) -> None:
    """Registers everything at `registry`; writes rows, labels and ids as JSON to `out`."""
    os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
    warnings.simplefilter("ignore")
    import mlflow

    mlflow.set_tracking_uri(registry)
    client = mlflow.MlflowClient()
    known = _wine(client)
    _broken(client)
    out.write_text(json.dumps(known), encoding="utf-8")


def _wine(client: Any) -> dict[str, Any]:
    import mlflow
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    features, labels = load_wine(as_frame=True, return_X_y=True)
    runs = []
    for model in (make_pipeline(StandardScaler(), LogisticRegression()), DecisionTreeClassifier(random_state=7)):
        model.fit(features, labels)
        with mlflow.start_run(tags={"mlflow.source.git.commit": "0123456789abcdef0123456789abcdef01234567"}) as run:
            mlflow.log_input(mlflow.data.from_pandas(features, name="wine"))
            mlflow.log_metric("accuracy", float(model.score(features, labels)))
            mlflow.sklearn.log_model(
                model,
                name="model",
                signature=mlflow.models.infer_signature(features, model.predict(features)),
                input_example=features.head(2),
                pip_requirements=["scikit-learn"],
                skops_trusted_types=["sklearn.tree._tree.Tree"],
                registered_model_name="wine",
            )
            runs.append(run.info.run_id)
    _log_code("wine", _MOODY, example=features.head(2))
    client.set_registered_model_alias("wine", "champion", "1")
    client.set_registered_model_alias("wine", "eu_west_champion", "2")
    rows = features.sample(20, random_state=7)
    return {
        "runs": runs,
        "columns": list(rows.columns),
        "rows": rows.to_numpy().tolist(),
        "labels": labels[rows.index].to_list(),
    }


def _log_code(name: str, code: str, *, example: Any) -> None:
    import mlflow

    with tempfile.TemporaryDirectory() as directory, mlflow.start_run():
        script = Path(directory, "code_of_model.py")
        script.write_text(code, encoding="utf-8")
        mlflow.pyfunc.log_model(
            name="model",
            python_model=str(script),
            input_example=example,
            pip_requirements=["pandas"],
            registered_model_name=name,
        )


def _broken(client: Any) -> None:
    import mlflow
    import pandas as pd

    client.create_registered_model("broken")
    for content in ({"MLmodel": _HOMELESS}, {"notes.txt": "no model here"}):
        with tempfile.TemporaryDirectory() as directory, mlflow.start_run() as run:
            for name, text in content.items():
                Path(directory, name).write_text(text, encoding="utf-8")
            mlflow.log_artifacts(directory, "thing")
            client.create_model_version("broken", f"{run.info.artifact_uri}/thing", run.info.run_id)
    _log_code("broken", _STUBBORN, example=pd.DataFrame({"x": [1.0]}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
