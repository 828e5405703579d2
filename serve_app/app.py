"""Ways to start the server: `build_app` for `serve run` and `serve deploy`, `run_server` for
`rayedit serve`."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator, Mapping
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
from engine.errors import ModelError
from engine.spec import ModelSpec
from serve_app.batches.processes import batch_processes
from serve_app.config import ServeConfig
from serve_app.deployment import LOGGING_CONFIG, build
from serve_app.exposure import check_exposure, check_port
from serve_app.ingress.files import Files
from serve_app.ingress.keys import ApiKeys
from serve_app.ingress.results import Results
from serve_app.ingress.upload import FORM_BYTES, MAX_FILE_BYTES
from serve_app.proxy.guard import guarded_environment
from serve_app.ray_private import PROXY_TIMEOUT_VARIABLES, logs_folder

__all__ = ["APP_NAME", "ServeConfig", "build_app", "deploy", "run_server"]

APP_NAME = "rayedit"


def build_app(args: ServeConfig | Mapping[str, Any] | None = None) -> serve.Application:
    """Make the Serve application of a `ServeConfig` or of its keys, nested or dotted:
    `serve run serve_app.app:build_app engine.model=pocket deadline_s=30`.

    Raises `OptionError`, `ModelUnknown`, `ModelError`.
    """
    config = ServeConfig.of(args)
    return build(config, config.engine.find_model())


def run_server(
    config: ServeConfig,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    spec: ModelSpec | None = None,
    address: str | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then shut down what was started.

    `spec` stands in for the config's model. `address`: a Ray cluster to join, as is `RAY_ADDRESS`;
    without either, Ray starts here. Raises `OptionInvalid` for a port that is taken and for a
    public `host` without API keys, `ModelUnknown`, `ModelError` when the model cannot be loaded,
    and `ClusterUnavailable` when Ray does not start.
    """
    check_exposure(host, ApiKeys.load(config), config.insecure_public)
    spec = spec or config.engine.find_model()
    config.engine.find_styles()  # which `build` reads, when Ray has started
    Results.of(config), Files.of(config)  # so does an ingress
    address = address or os.environ.get("RAY_ADDRESS")
    with _ray(config, host, port, address), _batches(config, address), _stop_signals():
        try:
            deploy(config, spec, host, port, batches_over_ray=bool(address))
            print(f"{spec.name}: http://{host}:{port} (API at /docs); Ctrl-C stops", flush=True)
            print(f"metrics: http://{host}:{port}/metrics; logs: {logs_folder()}", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopping, when the edits under way are done", flush=True)
        finally:
            serve.delete(APP_NAME)
    print("stopped", flush=True)


def deploy(
    config: ServeConfig, spec: ModelSpec, host: str, port: int, *, batches_over_ray: bool = True
) -> None:
    """Start Serve's proxy, then the application, in the Ray that this process is connected to;
    returns when it is ready. `batches_over_ray`: of `build`. Raises `ModelError`."""
    serve.start(
        http_options={
            "host": host,
            "port": port,
            # Behind the app's own deadline, for an ingress that no longer answers.
            "request_timeout_s": config.deadline_s + 10,
        },
        logging_config=LOGGING_CONFIG,
    )
    try:
        serve.run(build(config, spec, batches_over_ray), name=APP_NAME)
    except RuntimeError as error:
        raise ModelError(_deploy_failure(error)) from error


def _deploy_failure(error: RuntimeError) -> str:
    """Find what a replica said when it could not start: the last line of its traceback."""
    applications = serve.status().applications
    deployments = applications[APP_NAME].deployments if APP_NAME in applications else {}
    messages = [deployment.message for deployment in deployments.values() if deployment.message]
    lines = [line for line in "\n".join(messages or [str(error)]).splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "the application could not be deployed"
    return last.removeprefix(f"{ModelError.__module__}.{ModelError.__name__}: ")


def _batches(config: ServeConfig, address: str | None) -> AbstractContextManager[None]:
    """Look after batches, where the ingresses of a cluster do not."""
    return nullcontext() if address else batch_processes(config)


@contextmanager
def _ray(config: ServeConfig, host: str, port: int, address: str | None) -> Iterator[None]:
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
    reserved_cpus = config.max_replicas * config.num_cpus + config.ingress_replicas
    slots = int(reserved_cpus) + 1
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
