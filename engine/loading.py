"""Spec + config -> Editor: dtype and device chosen, each with its logged reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from safetensors import SafetensorError

from engine.adapters import Adapters
from engine.allocator import keep_freed_memory
from engine.calibration import Calibration
from engine.config import EngineConfig, load_config
from engine.device import choose_device
from engine.errors import AdapterUnusable, ModelError
from engine.models import Adapting, Editor, Placement
from engine.models.quantization import check_quantization, quiet_torchao
from engine.registry import load_editor_class
from engine.spec import ModelSpec
from engine.weights import damage_of, find_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model on its device."""

    editor: Editor
    spec: ModelSpec
    revision: str  # hub commit, or the digest of the folder's weights
    dtype: str  # of the weights: float32, float16, bfloat16
    calibration: Calibration | None = None  # of exactly this model on this kind of device

    @property
    def device_name(self) -> str:
        """The device as a calibration names it: "cpu", or the GPU's product name."""
        device = self.editor.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def use_device(device: torch.device) -> None:
    """Make `device` this thread's current one, which streams, events and graphs belong to."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def load_model(spec: ModelSpec, config: EngineConfig) -> LoadedModel:
    """Load a model as the operator wants it.

    Raises `ModelError` saying which file is wrong, `OptionError` for the calibration's.
    """
    device = choose_device(config.device)
    dtype = _choose_dtype(config.dtype, device, spec)
    if config.cuda_graphs and not spec.cuda_graphs:
        raise ModelError(f"model {spec.name} cannot be captured: leave cuda_graphs out")
    if config.cuda_graphs and device.type != "cuda":
        raise ModelError(f"cuda_graphs needs a GPU, and the device is {device}: leave it out")
    check_quantization(config.quantization, device)
    use_device(device)
    quiet_torchao()
    if device.type == "cpu":
        keep_freed_memory()
    folder, revision = find_weights(spec)
    placement = Placement(device, dtype, config.text_encoder, config.quantization)
    try:
        editor = load_editor_class(spec.editor).load(folder, spec, placement)
        editor.tune(channels_last=_channels_last(config, device), compile=config.compile)
    except (ImportError, OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = damage_of(spec, folder) or error
        raise ModelError(f"model {spec.name} cannot be loaded from {folder}: {reason}") from error
    logger.info("loaded %s revision %s on %s as %s", spec.name, revision[:12], device, dtype)
    loaded = LoadedModel(editor, spec, revision, str(dtype).removeprefix("torch."))
    if config.calibration is None:
        return loaded
    calibration = load_config(config.calibration, Calibration)
    found = {"model": spec.name, "revision": revision, "device": loaded.device_name}
    settings = cost_settings(config, device)
    calibration.check(config.calibration, **found, dtype=loaded.dtype, settings=settings)
    return replace(loaded, calibration=calibration)


def load_adapters(loaded: LoadedModel, config: EngineConfig) -> Adapters:
    """Read every LoRA that the configuration names, so that none is found wrong later.

    Raises `ModelError`. Captured and compiled calls go past hooks.
    """
    settings = {"cuda_graphs": config.cuda_graphs, "compile": config.compile}
    frozen_by = next((name for name, on in settings.items() if on), None)
    adapters = Adapters(loaded.editor, config.lora_memory_mb * 1_000_000, frozen_by=frozen_by)
    if frozen_by is None and isinstance(loaded.editor, Adapting):
        try:
            for adapter in loaded.spec.styles.values():
                adapters.hold(adapter)
        except AdapterUnusable as error:
            raise ModelError(error.message) from None
    return adapters


def _choose_dtype(wanted: str, device: torch.device, spec: ModelSpec) -> torch.dtype:
    if wanted == "auto":
        wanted = "float32" if device.type == "cpu" else spec.half
        logger.info("dtype %s: the choice for %s", wanted, device.type)
    return getattr(torch, wanted)


def _channels_last(config: EngineConfig, device: torch.device) -> bool:
    if config.channels_last is None:
        return device.type == "cpu"
    return config.channels_last


def cost_settings(config: EngineConfig, device: torch.device) -> str:
    """Name the settings that change what a batch costs on `device`, for a calibration's record."""
    switches = {
        "channels_last": _channels_last(config, device),
        "cuda_graphs": config.cuda_graphs,
        "compile": config.compile,
    }
    used = [name for name, on in switches.items() if on]
    if config.text_encoder != "device":  # what its weights leave free is room for samples
        used.append(f"text_encoder {config.text_encoder}")
    if config.quantization != "none":
        used.append(f"quantization {config.quantization}")
    return ", ".join([f"{config.threads} threads", *used])
