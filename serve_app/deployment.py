"""The two Ray Serve deployments: `EditReplica` holds the model, `EditIngress` speaks HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from engine.spec import ModelSpec
from engine.styles import Styles
from serve_app.batches.ray_jobs import keeper_over_ray
from serve_app.config import ServeConfig
from serve_app.exposure import check_exposure
from serve_app.ingress.api import make_app
from serve_app.ingress.edit_log import log_edit
from serve_app.ingress.kept_answers import KeptAnswers
from serve_app.ingress.keys import ApiKeys
from serve_app.ingress.metrics import IngressMetrics
from serve_app.ingress.prometheus import read_metrics
from serve_app.ingress.ray_backend import RayAnswers, RayBackend
from serve_app.ingress.record import EditRecord
from serve_app.ingress.service import EditService
from serve_app.ray_private import metrics_urls, proxy_host
from serve_app.replica.replica import EditReplica

# One JSON object a line; the line of an edit stands for Serve's own of its request.
LOGGING_CONFIG = LoggingConfig(encoding="JSON", enable_access_log=False)


class EditIngress:
    """Speaks HTTP: parses, decodes, asks a replica, encodes. Loads no torch."""

    def __init__(
        self,
        config: ServeConfig,
        spec: ModelSpec,
        keys: ApiKeys,
        styles: Styles,
        replicas: DeploymentHandle,
        answers: DeploymentHandle | None = None,
    ) -> None:
        check_exposure(proxy_host(), keys, config.insecure_public)
        metrics = IngressMetrics()

        def observe(record: EditRecord, in_flight: int, queue_s: float) -> None:
            metrics.set_queue(in_flight, queue_s)
            if record.has_ended:
                metrics.observe(record)
                log_edit(record)

        self._service = EditService(config, spec, RayBackend(replicas), keys, observe, styles)
        if answers is not None:
            self._service.answers = RayAnswers(answers)
        self._service.warm_up()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(self._service, lambda: read_metrics(metrics_urls()))

    def __del__(self) -> None:
        if hasattr(self, "_service"):
            self._service.close()


class KeepingIngress(EditIngress):
    """An ingress that also has the cluster run the jobs of batches."""

    def __init__(self, config: ServeConfig, *parts: Any) -> None:
        super().__init__(config, *parts)
        self._keeper = keeper_over_ray(config)

    def __del__(self) -> None:
        if hasattr(self, "_keeper"):
            self._keeper.close()
        super().__del__()


def build(config: ServeConfig, spec: ModelSpec, batches_over_ray: bool = True) -> serve.Application:
    """Make the application: an ingress in front of model replicas, which has the cluster run the
    jobs of batches with `batches_over_ray`.

    The ingress takes the digests of the keys and the styles along: it may run where neither the
    files nor the environment of this process are. Raises `OptionError` for keys and styles that
    cannot be read.
    """
    replicas = (
        serve.deployment(EditReplica)
        .options(
            ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
            autoscaling_config=config.autoscaling,
            max_ongoing_requests=config.max_ongoing_requests,
            graceful_shutdown_timeout_s=config.deadline_s + 5,
            graceful_shutdown_wait_loop_s=0.5,
            health_check_period_s=5,
            health_check_timeout_s=15,
            max_surge_percent=config.surge,
            max_constructor_retry_count=1,  # a model that cannot be loaded now cannot be at all
            logging_config=LOGGING_CONFIG,
        )
        .bind(config, spec)
    )
    kind = KeepingIngress if config.files_uri and batches_over_ray else EditIngress
    ingress = serve.deployment(serve.ingress()(kind)).options(
        name=EditIngress.__name__,
        num_replicas=config.ingress_replicas,
        ray_actor_options={"num_cpus": 0.5},
        # the service refuses above max_in_flight; the rest is for the other routes
        max_ongoing_requests=config.max_in_flight + 100,
        graceful_shutdown_timeout_s=config.deadline_s + 5,
        graceful_shutdown_wait_loop_s=0.5,
        max_surge_percent=100,
        max_constructor_retry_count=1,
        logging_config=LOGGING_CONFIG,
    )
    keys, styles = ApiKeys.load(config), config.engine.find_styles()
    return ingress.bind(config, spec, keys, styles, replicas, _shared_answers(config))


def _shared_answers(config: ServeConfig) -> serve.Application | None:
    """Make what several ingresses keep answers in; one keeps its own."""
    if config.ingress_replicas == 1:
        return None
    return (
        serve.deployment(KeptAnswers)
        .options(
            ray_actor_options={"num_cpus": 0},
            max_ongoing_requests=config.ingress_replicas * config.max_in_flight + 100,
            logging_config=LOGGING_CONFIG,
        )
        .bind(config.idempotency_memory_mb * 2**20)
    )
