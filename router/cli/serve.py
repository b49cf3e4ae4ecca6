"""`canary-router serve`.

Rules:
1. What is wrong with the settings or the config directory is told before anything starts, with exit 1; what is wrong
   with the options alone, with exit 2.
2. A directory without any model is served: it is where a new repository begins. A warning says so.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from router import logs
from router.config.load import REGIONS, load_regions, read_file, unknown_regions
from router.config.settings import load_settings
from router.errors import OperatorError
from router.supervisor import run

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--config", type=Path, metavar="DIR", help="The config repository, which holds models/.  [default: config]"
)
@click.option("--settings", type=Path, metavar="FILE", help="router.yaml.  [default: DIR/router.yaml, if there is one]")
@click.option(
    "--listen",
    multiple=True,
    metavar="[REGION=]HOST:PORT",
    help="Where clients connect; once per region.  [default: 0.0.0.0:8080]",
)
@click.option("--region", metavar="NAME", help="The region of a single listener.  [default: default]")
@click.option("--admin", metavar="HOST:PORT", help="The admin port.  [default: 127.0.0.1:9090]")
@click.option("--workers", metavar="N|auto", help="Data-plane processes.  [default: auto, one per core]")
@click.option("--state", type=Path, metavar="DIR", help="Database, sockets, fetched models.  [default: ./state]")
@click.option("--registry", metavar="URL", help="The MLflow registry.")
@click.option("--model-sources", metavar="PLACE,…", help="Where models may come from.  [default: anywhere]")
@click.option("--trusted-proxies", metavar="NET,…", help="Whose X-Forwarded-For is believed.")
@click.option("--drain-delay", metavar="DURATION", help="Unready for so long, then no listening.  [default: 0s]")
@click.option("--grace", metavar="DURATION", help="What is in flight may take this long to finish.  [default: 30s]")
def serve(settings: Path | None, **flags: Any) -> None:
    """Run the router on a directory of configs.

    Every option has a key in router.yaml and a variable (CANARY_ROUTER_LISTEN …) of the same meaning; the option
    prevails over the variable, and that over the file.
    """
    _check_usage(flags)
    loaded = load_settings(settings or _settings_beside(flags["config"]), os.environ, flags)
    root = loaded.config or Path("config")
    warning = _look_at(root)
    _check_regions(root, loaded.listen)
    logs.set_up("supervisor")
    if warning:
        log.warning(warning)
    sys.exit(run.serve(loaded.model_copy(update={"config": root.absolute()})))


def _check_usage(flags: Mapping[str, object]) -> None:
    """What is wrong with the options themselves is wrong usage.

    Raises:
        click.UsageError: something is.
    """
    try:
        load_settings(None, {}, flags)
    except OperatorError as error:
        raise click.UsageError(str(error)) from error


def _settings_beside(config: Path | None) -> Path | None:
    """`router.yaml` of the config repository, where there is one."""
    beside = (config or Path(os.environ.get("CANARY_ROUTER_CONFIG") or "config")) / "router.yaml"
    return beside if beside.is_file() else None


def _look_at(root: Path) -> str:
    """A warning about the config directory, or an empty string.

    Raises:
        OperatorError: it cannot be read.
    """
    hint = "name the folder that holds models/ with --config"
    try:
        models = root / "models"
        with os.scandir(root):
            found = any(models.glob("*.yaml"))
    except FileNotFoundError as error:
        raise OperatorError(f"the config directory {root} does not exist", hint=hint) from error
    except OSError as error:
        raise OperatorError(f"the config directory {root} cannot be read: {error.strerror}", hint=hint) from error
    return "" if found else f"there are no models in {models}: serving nothing until there are"


def _check_regions(root: Path, served: Iterable[str]) -> None:
    """Every listener's region must be one that regions.yaml names, where there is a regions.yaml that can be used.

    Raises:
        OperatorError: one is not.
    """
    try:
        regions, _ = load_regions(read_file(root / REGIONS), file=REGIONS)
    except OSError:
        return  # control tells what is wrong with it, for as long as it is
    unknown = unknown_regions(served, regions or ()) if regions is not None else []
    if unknown:
        raise OperatorError(
            f"{root / REGIONS} has no region {', '.join(map(repr, unknown))}",
            hint=f"serve one of {', '.join(regions or ())} with --region or --listen REGION=HOST:PORT, or add it there",
        )
