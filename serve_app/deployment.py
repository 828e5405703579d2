"""The two Ray Serve deployments: `EditReplica` holds the model, `EditIngress` speaks HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from serve_app.batches.ray_jobs import keeper_over_ray
from serve_app.config import ServeConfig
from serve_app.exposure import check_exposure
from serve_app.ingress.api import make_app
from serve_app.ingress.edit_log import log_edit
from serve_app.ingress.kept_answers import KeptAnswers
from serve_app.ingress.keys import ApiKeys
from serve_app.ingress.metrics import IngressMetrics
from serve_app.ingress.model_statuses import ModelStatuses
from serve_app.ingress.models import ServedModel
from serve_app.ingress.prometheus import read_metrics
from serve_app.ingress.ray_backend import RayAnswers, RayBackend
from serve_app.ingress.record import EditRecord
from serve_app.ingress.replica_wait import ReplicaWait
from serve_app.ingress.service import EditService
from serve_app.ray_private import metrics_urls, proxy_host, tell_multiplexed
from serve_app.replica.replica import EditReplica
from serve_app.served import Served

REPLICAS = EditReplica.__name__  # the deployment that holds a model
# One JSON object a line; the line of an edit stands for Serve's own of its request.
LOGGING_CONFIG = LoggingConfig(encoding="JSON", enable_access_log=False)


class EditIngress:
    """Speaks HTTP: parses, decodes, asks a replica, encodes. Loads no torch.

    `replicas`: those of a model alone; several models have them in applications of their own.
    """

    def __init__(
        self,
        config: ServeConfig,
        models: Sequence[Served],
        keys: ApiKeys,
        replicas: DeploymentHandle | None = None,
        answers: DeploymentHandle | None = None,
    ) -> None:
        check_exposure(proxy_host(), keys, config.insecure_public)
        metrics = IngressMetrics([model.name for model in models])

        def observe(record: EditRecord, in_flight: int, queue_s: float) -> None:
            metrics.set_queue(record.model, in_flight, queue_s)
            if record.has_ended:
                metrics.observe(record)
                log_edit(record)

        handles = {model.name: replicas or _replicas_of(model) for model in models}
        statuses = ModelStatuses(handles)
        served = [_served(model, handles[model.name], statuses) for model in models]
        self._service = EditService(config, served, keys, observe)
        self._service.statuses = statuses.all
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


def _replicas_of(model: Served) -> DeploymentHandle:
    """Find the replicas of a model in its application, which may be deployed later."""
    return serve.get_deployment_handle(REPLICAS, model.application, _check_exists=False)


def _served(model: Served, replicas: DeploymentHandle, statuses: ModelStatuses) -> ServedModel:
    wait = ReplicaWait(model.name, partial(statuses.of, model.name))
    backend = RayBackend(replicas, wait, model.config.engine.max_batch_size)
    return ServedModel(model.name, model.spec, backend, model.styles)


def build_replicas(model: Served) -> serve.Application:
    """Make the replicas of a model: an application, or what another binds."""
    config = model.config
    return (
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
        .bind(config, model.spec, model.name, tell_multiplexed)
    )


def build(
    config: ServeConfig, models: Sequence[Served], batches_over_ray: bool = True
) -> serve.Application:
    """Make the application: an ingress, and behind it the replicas of its model; those of several
    models are applications of their own, so that one more leaves the others alone. The ingress has
    the cluster run the jobs of batches with `batches_over_ray`.

    It takes the digests of the keys and the styles along: it may run where neither the files nor
    the environment of this process are. Raises `OptionError` for keys that cannot be read.
    """
    places = sum(model.config.max_in_flight for model in models)
    kind = KeepingIngress if config.files_uri and batches_over_ray else EditIngress
    ingress = serve.deployment(serve.ingress()(kind)).options(
        name=EditIngress.__name__,
        num_replicas=config.ingress_replicas,
        ray_actor_options={"num_cpus": 0.5},
        # the service refuses above max_in_flight; the rest is for the other routes
        max_ongoing_requests=places + 100,
        graceful_shutdown_timeout_s=config.deadline_s + 5,
        graceful_shutdown_wait_loop_s=0.5,
        max_surge_percent=100,
        max_constructor_retry_count=1,
        logging_config=LOGGING_CONFIG,
    )
    replicas = None if config.models else build_replicas(models[0])
    answers = _shared_answers(config, places)
    return ingress.bind(config, models, ApiKeys.load(config), replicas, answers)


def _shared_answers(config: ServeConfig, places: int) -> serve.Application | None:
    """Make what several ingresses of so many `places` keep answers in; one keeps its own."""
    if config.ingress_replicas == 1:
        return None
    return (
        serve.deployment(KeptAnswers)
        .options(
            ray_actor_options={"num_cpus": 0},
            max_ongoing_requests=config.ingress_replicas * places + 100,
            logging_config=LOGGING_CONFIG,
        )
        .bind(config.idempotency_memory_mb * 2**20)
    )
