"""Load for your own models, with locust, which is no dependency of this project: `pip install locust`.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --users 50 --spawn-rate 10 \\
        --model fraud-classifier --body request.json

Rules:
1. Every user is one customer who keeps one key, so that a sticky model keeps them at one version.
2. Answers are counted by the version that gave them: the table shows each version's share, errors and latencies.
3. What the router answered by itself (a `Proxy-Status` header) is a failure, named by its error.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant_pacing, events, task

EXAMPLE = {"inputs": [[0.0, 0.0, 0.0, 0.0]]}


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust is not installed here
def add_options(parser: Any) -> None:
    """What locust is told beside its own options."""
    parser.add_argument("--model", default="fraud-classifier", help="the model's name in its config")
    parser.add_argument("--path", default="/models/{model}/invocations", help="the prediction path")
    parser.add_argument("--body", default="", help="a file with one request body; without it a row of four zeros")
    parser.add_argument("--sticky-header", default="x-customer-id", help="the header that holds the key")
    parser.add_argument("--every", type=float, default=1.0, help="seconds from one request of a user to the next")


class Customer(FastHttpUser):  # type: ignore[misc]  # locust is not installed here
    """One caller who asks for predictions."""

    def wait_time(self) -> float:
        """Seconds until the next request, from the start of the last one."""
        wait: float = constant_pacing(self.environment.parsed_options.every)(self)
        return wait

    def on_start(self) -> None:
        """Reads the options once."""
        options = self.environment.parsed_options
        self.url = options.path.format(model=options.model)
        self.body = Path(options.body).read_bytes() if options.body else json.dumps(EXAMPLE).encode()
        self.headers = {"content-type": "application/json", options.sticky_header: uuid.uuid4().hex}

    @task  # type: ignore[untyped-decorator]  # locust is not installed here
    def predict(self) -> None:
        """One prediction, counted for the version that answered."""
        with self.client.post(self.url, data=self.body, headers=self.headers, catch_response=True) as answer:
            headers = answer.headers or {}
            answer.request_meta["name"] = headers.get("x-model-version", "no version")
            if "proxy-status" in headers:
                answer.failure(headers["proxy-status"])
