"""What an operator sets: the shipped files are valid, and a mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from engine.config import load_config
from engine.errors import OptionInvalid, OptionUnknown
from engine.registry import find_model
from serve_app.config import ServeConfig
from serve_app.deployment import LOGGING_CONFIG
from serve_app.served import find_models

CONFIGS = Path(__file__).parents[2] / "configs" / "serve"


@pytest.mark.parametrize("name", ["local", "gpu", "klein", "qwen"])
def test_a_shipped_config_is_valid_and_names_a_known_model(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", ServeConfig)
    assert find_model(config.engine.model)
    assert config.num_gpus == (0 if name == "local" else 1)


def test_the_deploy_file_is_serves_own_and_its_arguments_are_gpu_yamls() -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(yaml.safe_load((CONFIGS / "deploy.yaml").read_text()))
    (application,) = schema.applications
    config = ServeConfig.of(application.args)
    assert config == load_config(CONFIGS / "gpu.yaml", ServeConfig)
    assert (schema.http_options.request_timeout_s or 0) > config.deadline_s
    assert schema.logging_config == LOGGING_CONFIG


def test_the_deploy_file_of_several_models_has_an_application_for_each_of_models_yaml() -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(
        yaml.safe_load((CONFIGS / "deploy-models.yaml").read_text())
    )
    config = load_config(CONFIGS / "models.yaml", ServeConfig)
    served = {model.application: model for model in find_models(config)}
    (ingress,) = [each for each in schema.applications if each.route_prefix == "/"]
    assert [*ServeConfig.of(ingress.args).models] == [*config.models]
    assert ServeConfig.of(ingress.args).aliases == config.aliases
    applications = {each.name: each for each in schema.applications if each is not ingress}
    assert applications.keys() == served.keys()
    for name, application in applications.items():
        assert application.import_path == "serve_app.app:build_model"
        assert application.route_prefix is None
        (found,) = find_models(ServeConfig.of(application.args))
        (of_ingress,) = [m for m in find_models(ServeConfig.of(ingress.args)) if m.name == name]
        for one in (found, of_ingress):
            assert (one.name, one.spec) == (name, served[name].spec)
            assert one.config.autoscaling == served[name].config.autoscaling
            assert one.config.max_ongoing_requests == served[name].config.max_ongoing_requests
            assert one.config.num_gpus == served[name].config.num_gpus
    assert (schema.http_options.request_timeout_s or 0) > config.deadline_s


def test_every_key_says_what_it_is() -> None:
    assert [name for name, key in ServeConfig.model_fields.items() if not key.description] == []


def test_dotted_keys_of_the_command_line_are_sections() -> None:
    config = ServeConfig.of(
        {"engine.model": "pocket", "engine.resolution": "64", "deadline_s": "5", "num_gpus": "0.5"}
    )
    assert (config.engine.resolution, config.deadline_s, config.num_gpus) == (64, 5.0, 0.5)
    assert ServeConfig.of({"engine": {"model": "a"}, "engine.dtype": "float32"}).engine.model == "a"


@pytest.mark.parametrize(
    ("args", "param"),
    [
        ({"deadline_s": 301}, "deadline_s"),
        ({"deadline_s": "nan"}, "deadline_s"),
        ({"max_replicas": 0}, "max_replicas"),
        ({"engine.max_batch_size": "0"}, "engine.max_batch_size"),
    ],
)
def test_a_value_out_of_bounds_is_named(args: dict[str, object], param: str) -> None:
    with pytest.raises(OptionInvalid) as caught:
        ServeConfig.of(args)
    assert caught.value.param == param


def test_more_replicas_at_least_than_at_most_is_refused() -> None:
    with pytest.raises(OptionInvalid, match=r"min_replicas \(3\) is more than max_replicas \(2\)"):
        ServeConfig.of({"min_replicas": 3, "max_replicas": 2})


def test_a_rate_of_which_an_ingress_would_grant_less_than_one_edit_is_refused() -> None:
    with pytest.raises(OptionInvalid, match=r"requests_per_minute \(1\).*ingress_replicas \(2\)"):
        ServeConfig.of({"requests_per_minute": 1, "ingress_replicas": 2})
    ServeConfig.of({"requests_per_minute": 2, "ingress_replicas": 2})
    ServeConfig.of({"requests_per_minute": 0.5})


def test_a_replica_alone_holds_every_edit_and_one_of_several_two_batches() -> None:
    args = {"engine.max_batch_size": 4, "max_in_flight": 50, "ingress_replicas": 2}
    assert ServeConfig.of(args).max_ongoing_requests == 100 + 8
    assert ServeConfig.of({**args, "max_replicas": 2}).max_ongoing_requests == 8 + 8


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(OptionUnknown, match='Did you mean "deadline_s"'):
        ServeConfig.of({"deadline": 5})
