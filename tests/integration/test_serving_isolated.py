"""Two versions with libraries that cannot be in one environment, side by side, each in its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from router.config.serving import Serving
from router.registry import client
from tests.integration.test_serving import Served

VERSIONS = ("1.5.2", "1.7.2")
# Tests use no network; whoever has an index that may be asked says so, as the nightly run does.
INDEX = os.environ.get("CANARY_ROUTER_TEST_INDEX")
SAVE = """
import sys, mlflow
from pathlib import Path
code = '''
import mlflow
class Which(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        import sklearn
        from sklearn.linear_model import LogisticRegression
        LogisticRegression().fit([[0.0], [1.0]], [0, 1])
        return [sklearn.__version__] * len(model_input)
mlflow.models.set_model(Which())
'''
folder, version = sys.argv[1:]
script = Path(folder + ".py")
script.write_text(code)
needed = ["mlflow-skinny", f"scikit-learn=={version}"]
mlflow.pyfunc.save_model(folder, python_model=str(script), pip_requirements=needed)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not INDEX, reason="needs a package index: set CANARY_ROUTER_TEST_INDEX=1 where one may be asked")
def test_two_versions_of_scikit_learn_side_by_side(tmp_path: Path) -> None:
    said = {}
    with ExitStack() as stack:
        for number, version in enumerate(VERSIONS):
            folder = tmp_path / f"m{number}"
            subprocess.run([sys.executable, "-c", SAVE, str(folder), version], check=True, capture_output=True)
            made = asyncio.run(client.prepare(folder, root=tmp_path / "e", timeout=600))
            served = Served(tmp_path / f"s{number}", folder, Serving(isolated=True), Path(made.python))
            stack.enter_context(closing(served))
            served.wait_until_ready()
            said[version] = served
        for version, served in said.items():
            with served.client() as asking:
                assert asking.post("/invocations", json={"inputs": [[1]]}).json() == {"predictions": [version]}
