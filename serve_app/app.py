"""Ways to start the server: `build_app` for `serve run` and `serve deploy`, `run_server` for
`rayedit serve`."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stdout,
)
from types import FrameType
from typing import Any

import ray
from ray import serve

from cluster.session import joined_ray, local_ray
from engine.errors import ModelError, OptionInvalid
from serve_app.batches.processes import batch_processes
from serve_app.config import ServeConfig
from serve_app.deployment import LOGGING_CONFIG, REPLICAS, build, build_replicas
from serve_app.exposure import check_exposure, check_port
from serve_app.ingress.files import Files
from serve_app.ingress.keys import ApiKeys
from serve_app.ingress.model_statuses import failure_of, status_of
from serve_app.ingress.results import Results
from serve_app.ingress.upload import FORM_BYTES, MAX_FILE_BYTES
from serve_app.model_config import APP_NAME
from serve_app.proxy.guard import guarded_environment
from serve_app.ray_private import PROXY_TIMEOUT_VARIABLES, logs_folder
from serve_app.schemas import ModelStatus
from serve_app.served import Served, find_models

__all__ = ["APP_NAME", "ServeConfig", "build_app", "build_model", "deploy", "run_server"]


def build_app(args: ServeConfig | Mapping[str, Any] | None = None) -> serve.Application:
    """Make the Serve application of a `ServeConfig` or of its keys, nested or dotted:
    `serve run serve_app.app:build_app engine.model=pocket deadline_s=30`.

    Raises `OptionError`, `ModelUnknown`, `ModelError`.
    """
    config = ServeConfig.of(args)
    return build(config, find_models(config))


def build_model(args: ServeConfig | Mapping[str, Any] | None = None) -> serve.Application:
    """Make the Serve application of one of several models, its replicas alone. `args`: as
    `build_app` takes them, with that one under `models`.

    Raises `OptionError`, `ModelUnknown`, `ModelError`.
    """
    config = ServeConfig.of(args)
    if len(config.models) != 1:
        raise OptionInvalid(
            f"models: the application of a model has one; got {len(config.models)}", param="models"
        )
    return build_replicas(find_models(config)[0])


def run_server(
    config: ServeConfig,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    models: Sequence[Served] | None = None,
    address: str | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then shut down what was started.

    `models` stand in for the config's. `address`: a Ray cluster to join, as is `RAY_ADDRESS`;
    without either, Ray starts here. Raises `OptionInvalid` for a port that is taken and for a
    public `host` without API keys, `ModelUnknown`, `ModelError` when no model can be loaded,
    and `ClusterUnavailable` when Ray does not start.
    """
    check_exposure(host, ApiKeys.load(config), config.insecure_public)
    models = models or find_models(config)
    Results.of(config), Files.of(config)  # which an ingress does, when Ray has started
    address = address or os.environ.get("RAY_ADDRESS")
    with _ray(config, models, host, port, address), _batches(config, address), _stop_signals():
        try:
            deploy(config, models, host, port, batches_over_ray=bool(address))
            names = ", ".join(model.name for model in models)
            print(f"{names}: http://{host}:{port} (API at /docs); Ctrl-C stops", flush=True)
            print(f"metrics: http://{host}:{port}/metrics; logs: {logs_folder()}", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopping, when the edits under way are done", flush=True)
        finally:
            for application in dict.fromkeys([APP_NAME, *(each.application for each in models)]):
                serve.delete(application)
    print("stopped", flush=True)


def deploy(
    config: ServeConfig,
    models: Sequence[Served],
    host: str,
    port: int,
    *,
    batches_over_ray: bool = True,
) -> None:
    """Start Serve's proxy, then the applications, in the Ray that this process is connected to;
    returns when they are ready. One of several models that cannot be loaded is said, and stops no
    other. `batches_over_ray`: of `build`. Raises `ModelError` where none can be."""
    serve.start(
        http_options={
            "host": host,
            "port": port,
            # Behind the app's own deadline, for an ingress that no longer answers.
            "request_timeout_s": config.deadline_s + 10,
        },
        logging_config=LOGGING_CONFIG,
    )
    if config.models:
        targets = [
            serve.RunTarget(build_replicas(model), model.application, route_prefix=None)
            for model in models
        ]
        serve.run_many(targets, wait_for_applications_running=False)
    try:
        serve.run(build(config, models, batches_over_ray), name=APP_NAME)
    except RuntimeError as error:
        raise ModelError(_failure(APP_NAME) or str(error)) from error
    if config.models:
        _wait_for(models)


def _wait_for(models: Sequence[Served]) -> None:
    """Wait until each of several models is ready or cannot be; raises `ModelError` where none
    is."""
    failed = {}
    for model in models:
        while (status := _status(model)) == "starting":
            time.sleep(0.2)
        if status == "failed":
            reason = _failure(model.application)
            failed[model.name] = f"{model.name} cannot be loaded: {reason}"
    if len(failed) == len(models):
        raise ModelError("; ".join(failed.values()))
    for said in failed.values():
        print(f"{said}; its edits are refused, those by others made", file=sys.stderr, flush=True)


def _status(model: Served) -> ModelStatus:
    return status_of(serve.status().applications.get(model.application), REPLICAS)


def _failure(application: str) -> str:
    """Find what a replica said when it could not start, without the name of our class."""
    said = failure_of(serve.status().applications.get(application))
    return said.removeprefix(f"{ModelError.__module__}.{ModelError.__name__}: ")


def _batches(config: ServeConfig, address: str | None) -> AbstractContextManager[None]:
    """Look after batches, where the ingresses of a cluster do not."""
    return nullcontext() if address else batch_processes(config)


@contextmanager
def _ray(
    config: ServeConfig, models: Sequence[Served], host: str, port: int, address: str | None
) -> Iterator[None]:
    """Connect to the cluster at `address`, or to a Ray that lives as long as the block."""
    if ray.is_initialized():
        yield
        return
    if address:
        with joined_ray(address):
            yield
        return
    check_port(host, port)
    of_files = None if config.files_uri is None else MAX_FILE_BYTES + FORM_BYTES
    os.environ.update(guarded_environment(config.max_body_bytes, of_files))
    for name, value in PROXY_TIMEOUT_VARIABLES.items():
        os.environ.setdefault(name, value)
    of_models = sum(model.config.max_replicas * model.config.num_cpus for model in models)
    slots = int(of_models + config.ingress_replicas) + 1
    with ExitStack() as end, local_ray(idle_workers=0, num_cpus=slots):  # Serve runs no tasks
        try:
            yield
        finally:
            # Ray prints that the controller, which ends itself as it is told, has failed.
            end.enter_context(redirect_stdout(io.StringIO()))
            serve.shutdown()


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Let SIGTERM interrupt the block as Ctrl-C does."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the way out
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
