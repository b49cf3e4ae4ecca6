"""MLflow's exceptions, mapped to ours.

Rules:
1. One context manager around every call into MLflow; nothing foreign leaves it.
2. What an operator has to mend (a URI that names nothing, credentials that are refused) is told from what may mend
   itself (a registry that cannot be reached, or answers nonsense).
3. The message says which registry, without credentials; the cause is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from router.errors import OperatorError, RouterError, UpstreamError
from router.registry.redact import first_line, without_credentials

_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
_REFUSED = {"PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED", "UNAUTHENTICATED"}
_CONNECTION_FAULTS = {
    "ConnectionRefusedError": "connection refused",
    "gaierror": "its name cannot be resolved",
    "NameResolutionError": "its name cannot be resolved",
    "ConnectTimeout": "no connection within the time allowed",
    "ConnectTimeoutError": "no connection within the time allowed",
    "ReadTimeout": "no answer within the time allowed",
    "ReadTimeoutError": "no answer within the time allowed",
    "SSLCertVerificationError": "its TLS certificate is not trusted",
    "SSLError": "TLS failed",
    "ConnectionResetError": "connection reset",
    "RemoteDisconnected": "it closed the connection without an answer",
    "TooManyRedirects": "it redirects in circles",
}
_START_REGISTRY = "check that the registry runs and that `registry` in router.yaml names it"
_GIVE_CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


@contextmanager
def mapped(uri: str, registry: str | None) -> Iterator[None]:
    """Maps whatever is raised inside to a RouterError about model `uri` at `registry`."""
    try:
        yield
    except RouterError:
        raise
    except OSError as fault:
        raise _of_system(fault) or _of_registry(fault, uri, registry) from fault
    except Exception as fault:
        raise _of_registry(fault, uri, registry) from fault


def _of_system(fault: OSError) -> RouterError | None:
    if fault.filename is None or fault.strerror is None:
        return None
    return OperatorError(
        f"{fault.filename}: {fault.strerror}", hint="the state directory must be writable and have room for the model"
    )


def _of_registry(fault: Exception, uri: str, registry: str | None) -> RouterError:
    place = f"the registry at {without_credentials(registry)}" if registry else "the model's files"
    code = str(getattr(fault, "error_code", ""))
    reason = _connection_fault(fault)
    if reason:
        return UpstreamError(f"{uri}: {place} cannot be reached: {reason}", hint=_START_REGISTRY)
    if code in _ABSENT or _absent_alias(fault, code):
        return OperatorError(f"{uri}: {place} has no such model: {_said(fault)}", hint="check the name and the version")
    if code in _REFUSED:
        return OperatorError(f"{uri}: {place} refuses our credentials", hint=_GIVE_CREDENTIALS)
    if code == "ENDPOINT_NOT_FOUND":
        return UpstreamError(f"{uri}: {place} does not answer like an MLflow server", hint=_START_REGISTRY)
    if isinstance(fault, ImportError):
        return OperatorError(
            f"{uri}: its store needs a library that is missing here: {_said(fault)}",
            hint="install it beside the router (for example boto3 for s3://), or let the MLflow server proxy artifacts",
        )
    if code and code != "INTERNAL_ERROR":
        return UpstreamError(f"{uri}: {place} answered {code}: {_said(fault)}")
    return UpstreamError(f"{uri}: {place} gave an answer that cannot be used: {type(fault).__name__}: {_said(fault)}")


def _said(fault: Exception) -> str:
    code = f"{getattr(fault, 'error_code', '')}: "
    return first_line(str(fault)).removeprefix(code)


def _absent_alias(fault: Exception, code: str) -> bool:
    return code == "INVALID_PARAMETER_VALUE" and "alias" in str(fault) and "not found" in str(fault)


def _connection_fault(fault: BaseException) -> str:
    """What kept us from the registry, found in the chain of causes that the HTTP libraries wrap it in."""
    seen: set[int] = set()
    link: BaseException | None = fault
    reason = ""
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        reason = _CONNECTION_FAULTS.get(type(link).__name__, reason)
        if not reason and type(link).__name__ == "ConnectionError":
            reason = "connection failed"
        link = link.__cause__ or link.__context__
    return reason
