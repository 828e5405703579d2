"""Every YAML of configs/ is what its reader accepts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch_jobs.config import JobConfig
from engine.config import EngineConfig, cores, load_config
from engine.errors import OptionError
from engine.options import EditOptions
from engine.registry import find_model
from engine.styles import load_styles
from triplet_jobs.config import TripletConfig
from triplet_jobs.job import find_model as find_editor

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("batch/*.yaml")), ids=lambda p: p.name)
def test_job_configs_load(path: Path) -> None:
    config = load_config(path, JobConfig)
    config.engine.find_model()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("triplets/*.yaml")), ids=lambda p: p.name)
def test_factory_configs_load(path: Path) -> None:
    find_editor(load_config(path, TripletConfig))


def test_the_shops_styles_are_of_models_that_can_do_them() -> None:
    styles = load_styles(CONFIGS / "styles.yaml")
    for name, style in styles.by_name.items():
        assert styles.find(name, find_model(style.model or "pocket")) is style
    job = load_config(CONFIGS / "batch" / "styles.yaml", JobConfig)
    assert job.engine.styles == "configs/styles.yaml" and job.style in styles.by_name


def test_a_style_brings_its_model_where_none_is_named() -> None:
    assert JobConfig(style="anime").for_style().engine.model == "instruct-pix2pix"
    named = JobConfig(style="anime", engine=EngineConfig(model="pocket"))
    assert named.for_style() == named
    assert JobConfig(style="sketch").for_style().engine.model == "pocket"


def test_flags_outrank_the_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("engine:\n  model: pocket\n  resolution: 64\nseed: 5\n")
    config = load_config(
        path, JobConfig, engine={"determinism": "strict", "model": None}, seed=None
    )
    assert (config.engine.model, config.engine.resolution, config.seed) == ("pocket", 64, 5)
    assert config.engine.determinism == "strict"


def test_on_and_off_are_words_where_a_word_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "engine:\n  translate: off\n  channels_last: on\n"
        "  options: {preserve: off, auto_guidance: on, restore_size: yes, detail: source}\n"
    )
    engine = load_config(path, JobConfig).engine
    assert (engine.translate, engine.channels_last) == ("off", True)
    options = engine.options
    assert (options.preserve, options.auto_guidance, options.restore_size) == ("off", "on", True)


def test_a_config_may_set_options_for_every_edit_that_does_not() -> None:
    spec = load_config(CONFIGS / "batch" / "kontext.yaml", JobConfig).engine.find_model()
    options = spec.resolve(EditOptions(), seed=1)
    assert (options.num_inference_steps, options.guidance_scale) == (28, 3.5)
    assert spec.resolve(EditOptions(guidance_scale=2.0), seed=1).guidance_scale == 2.0
    assert spec.identity() != find_model("flux-kontext").identity()


def test_an_edit_that_says_something_else_than_the_config_wins() -> None:
    options = {"num_images": 3, "resize": "pad", "return_mask": True, "restore_size": True}
    spec = EngineConfig(options=EditOptions.parse(options)).find_model()
    found = spec.resolve(EditOptions(), seed=1).model_dump()
    assert {name: found[name] for name in options} == options
    said = {"num_images": 1, "resize": "fit", "return_mask": False, "restore_size": False}
    found = spec.resolve(EditOptions.parse(said), seed=1).model_dump()
    assert {name: found[name] for name in said} == said


def test_a_size_for_every_edit_is_not_the_sources() -> None:
    spec = EngineConfig(options=EditOptions(size="96x64")).find_model()
    assert spec.resolve(EditOptions(), seed=1).restore_size is False
    assert spec.resolve(EditOptions(restore_size=True), seed=1).restore_size is True


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"image_guidance_scale": 1.5}, "flux-kontext has no image_guidance_scale; it takes"),
        ({"seed": 3}, "seed is of each edit"),
        ({"style": "sketch"}, "style is of each edit"),
        ({"size": "500x512"}, "500 px is not possible with model flux-kontext"),
    ],
)
def test_an_option_that_cannot_be_a_default_is_refused_by_name(
    options: dict[str, object], says: str
) -> None:
    config = EngineConfig(model="flux-kontext", options=EditOptions.parse(options))
    with pytest.raises(OptionError, match=says):
        config.find_model()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("enginee:\n  model: pocket\n", 'Did you mean "engine"'),
        ("engine:\n  modle: pocket\n", "engine.modle"),
        ("- a list\n", "keys and values"),
        ("engine: [", "cannot read"),
        ("engine:\n  max_batch_size: 0\n", "engine.max_batch_size"),
        ("engine:\n  options:\n    guidance_scale: 99\n", "engine.options.guidance_scale"),
        ("engine:\n  options:\n    steps: 9\n", "num_inference_steps"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(OptionError, match=says):
        load_config(path, JobConfig)


def test_threads_default_to_the_cores_of_this_process() -> None:
    assert EngineConfig().threads == cores() >= 1
    assert EngineConfig(num_threads=3).threads == 3


def test_cores_are_counted_where_no_process_is_bound_to_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert cores() == os.cpu_count()
