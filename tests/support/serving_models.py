"""Saves one small model of every kind that a request can meet. A process of its own: it imports MLflow.

Rules:
1. Each model is a directory under the one that is named; nothing is registered.
2. `echo_*` answer with what their code was given, types and all: whatever differs between two servers shows.
3. `moody` fails in the ways that a model can, `wild` hangs, dies or takes memory; their input says how.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

_ECHO = """
import mlflow
import numpy as np
import pandas as pd

def told(data):
    if isinstance(data, pd.DataFrame):
        kinds = [f"{name!r} {data[name].dtype}" for name in data.columns]
        return [f"{kinds} {index!r} {row!r}" for index, row in zip(data.index, data.to_numpy(object).tolist())]
    if isinstance(data, np.ndarray):
        return [f"{data.dtype} {data.shape[1:]} {row!r}" for row in data] if data.ndim else [repr(data)]
    if isinstance(data, dict):
        return [f"{name} {value.dtype} {value.shape} {value.tolist()!r}" for name, value in data.items()]
    return [f"{type(data).__name__} {data!r}"]

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [f"{line} {params!r}" for line in told(model_input)]

mlflow.models.set_model(Echo())
"""
_HINTED = """
import mlflow

class Hinted(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str], params=None) -> list[str]:
        return [text.upper() for text in model_input]

mlflow.models.set_model(Hinted())
"""
_WILD = """
import mlflow
import os
import signal
import time

class Wild(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        for x in model_input["x"]:
            if x == -1:
                time.sleep(1000)
            if x == -2:
                while True:
                    pass
            if x == -3:
                os.kill(os.getpid(), signal.SIGKILL)
            if x == -4:
                bytearray(2**29)
        return [float(os.getpid() if x == -5 else x) for x in model_input["x"]]

mlflow.models.set_model(Wild())
"""
_MOODY = """
import datetime
import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

class Moody(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        how = model_input["how"].iloc[0]
        print("printed:", how)
        if how == "raises":
            raise ValueError(f"no {how} today")
        if how == "refuses":
            raise MlflowException.invalid_parameter_value(f"cannot do {how}")
        return {
            "object": lambda: object(),
            "nan": lambda: np.array([float("nan"), float("inf"), -0.0, 1e22, 1e-7]),
            "frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, float("nan")]}),
            "series": lambda: pd.Series([1.5, 2.5], name="score"),
            "nameless": lambda: pd.Series([True, False]),
            "dates": lambda: pd.DataFrame({"at": pd.to_datetime(["2024-01-02", "2024-01-03T04:05:06.789"])}),
            "floats": lambda: np.array([0.1, 0.2], dtype=np.float32),
            "strings": lambda: np.array(["é", "b"]),
            "scalar": lambda: np.float64(1.5),
            "dictionary": lambda: {"x": np.arange(3), "when": datetime.date(2024, 1, 2)},
            "bytes": lambda: [b"ab"],
            "none": lambda: None,
            "few": lambda: [1],
        }.get(how, lambda: [how] * len(model_input))()

mlflow.models.set_model(Moody())
"""


def main(root: Path) -> None:
    """Saves every model under `root`."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    warnings.simplefilter("ignore")
    _sklearn(root)
    _echoes(root)
    _code(root, "hinted", _HINTED, input_example=["a", "b"])


def _sklearn(root: Path) -> None:
    import mlflow
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    features, labels = load_iris(as_frame=True, return_X_y=True)
    features.columns = ["a", "b", "c", "d"]
    common: dict[str, Any] = {
        "pip_requirements": ["scikit-learn"],
        "skops_trusted_types": ["sklearn.tree._tree.Tree"],
        "input_example": features.head(3),
    }
    linear = LogisticRegression(max_iter=1000).fit(features, labels)
    signature = mlflow.models.infer_signature(features, linear.predict(features))
    mlflow.sklearn.save_model(linear, root / "linear", signature=signature, **common)
    mlflow.sklearn.save_model(linear, root / "proba", signature=signature, pyfunc_predict_fn="predict_proba", **common)
    tree = DecisionTreeClassifier(random_state=1).fit(features.to_numpy(), labels)
    del common["input_example"]
    mlflow.sklearn.save_model(tree, root / "tree", **common)


def _echoes(root: Path) -> None:
    import numpy as np
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    doubles = Schema([ColSpec("double", name) for name in "abcd"])
    kinds = ("double", "float", "long", "integer", "boolean", "string")
    schemas = {
        "doubles": doubles,
        "kinds": Schema([ColSpec(kind, kind) for kind in kinds]),
        "dated": Schema([ColSpec("datetime", "at"), ColSpec("double", "x", required=False)]),
        "binary": Schema([ColSpec("binary", "blob")]),
        "single": Schema([ColSpec("string", "text")]),
        "unnamed": Schema([ColSpec("double"), ColSpec("double")]),
        "tensor": Schema([TensorSpec(np.dtype("float32"), (-1, 2, 2))]),
        "matrix": Schema([TensorSpec(np.dtype("float64"), (-1, 4))]),
        "tensors": Schema(
            [TensorSpec(np.dtype("float32"), (-1, 2), "left"), TensorSpec(np.dtype("int64"), (-1,), "right")]
        ),
    }
    for name, schema in schemas.items():
        _code(root, f"echo_{name}", _ECHO, signature=ModelSignature(inputs=schema))
    params = ParamSchema([ParamSpec("scale", DataType.double, 1.0), ParamSpec("labels", DataType.string, ["x"], (-1,))])
    _code(root, "echo_params", _ECHO, signature=ModelSignature(inputs=doubles, params=params))
    _code(root, "echo_bare", _ECHO)
    how = Schema([ColSpec("string", "how")])
    _code(root, "moody", _MOODY, signature=ModelSignature(inputs=how))
    x = Schema([ColSpec("double", "x")])
    _code(root, "wild", _WILD, signature=ModelSignature(inputs=x), input_example=pd.DataFrame({"x": [1.0, 2.0]}))


def _code(root: Path, name: str, code: str, **named: Any) -> None:
    import mlflow

    script = root / f"{name}.py"
    script.write_text(code, encoding="utf-8")
    mlflow.pyfunc.save_model(root / name, python_model=str(script), pip_requirements=["pandas"], **named)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
