"""`/api/v1`: reading the router's state, and steering.

Rules:
1. Handlers run on the event loop and only read, so that they need no lock.
2. Every response has a type; every error is problem+json.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from router import __version__
from router.control.service import Control
from router.web.problems import MEDIA_TYPE, on_bug, on_http_exception, on_invalid
from router.web.schemas import ModelList, ModelView, ProblemDetails
from router.web.steering import add_steering
from router.web.views import all_models, model_view, only_region

_token = HTTPBearer(auto_error=False, description="Not needed on loopback, unless `read_token: required`.")


def _error(description: str) -> dict[str, object]:
    schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


ERRORS: dict[int | str, dict[str, object]] = {
    401: {"model": ProblemDetails, **_error("A bearer token is needed.")},
    403: {"model": ProblemDetails, **_error("The token, or the place, does not allow this.")},
}


def build_api(control: Control) -> FastAPI:
    """The application under `/api/v1`."""
    api = FastAPI(
        title="canary-router",
        version=__version__,
        description="Weights, versions and health of the models that this router serves.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Security(_token)],
        responses=ERRORS,
        exception_handlers={
            StarletteHTTPException: on_http_exception,
            RequestValidationError: on_invalid,
            Exception: on_bug,
        },
    )

    @api.get("/models", operation_id="list_models")
    async def list_models() -> ModelList:
        """Every model of the configs, those without a good config included."""
        return all_models(control)

    @api.get(
        "/models/{model}",
        operation_id="get_model",
        responses={404: {"model": ProblemDetails, **_error("No such model or region.")}},
    )
    async def get_model(
        model: str,
        region: Annotated[str | None, Query(description="Default: the router's only region.")] = None,
    ) -> ModelView:
        """One model: declared, effective and observed weights, versions, and its config's problems."""
        known = control.controller.models.get(model)
        if known is None:
            raise HTTPException(404, f"no config names a model {model!r}")
        if region is not None and region not in control.setup.regions:
            raise HTTPException(
                404, f"this router serves no region {region!r}, only {', '.join(control.setup.regions)}"
            )
        return model_view(control, known, region or only_region(control))

    add_steering(api, control)
    return api
