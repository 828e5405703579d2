"""The adapters of a loaded model: read beside the batch that runs, kept while there is room."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from engine.adapter import Adapter
from engine.errors import AdapterUnusable, OptionInvalid
from engine.lora import AdapterWeights, LowRank, layers_of, read_lora
from engine.models import Adapting, Editor
from engine.tensor_cache import TensorCache

MAX_BYTES = 1 << 30  # of weights: 23 adapters of 45 MB, as rank 8 on FLUX.1 in bfloat16 is one
LOOK_AGAIN_S = 0.05  # while nothing else can be done, for who arrives or leaves meanwhile
TRY_AGAIN_S = 10.0  # after a file could not be read: storage may come back


class Adapters:
    """Adds the low-rank weights of one adapter at a time to what an editor's denoiser computes.

    Nothing of the model is changed: an adapter is a hook on each of its layers, and without one the
    model is what it was. All calls but `check` come from the device's thread.
    """

    def __init__(
        self,
        editor: Editor,
        max_bytes: int = MAX_BYTES,
        *,
        frozen_by: str | None = None,
        beside: bool | None = None,
    ) -> None:
        """Keep at most `max_bytes` of weights on the device; the least recently used leaves.

        `frozen_by`: the setting under which no layer can be hooked. `beside`: read files on a
        thread of its own; default: with a GPU. On a CPU a second thread that computes makes every
        later step slower (docs/decisions.md).
        """
        self._editor = editor
        self._layers = layers_of(editor) if isinstance(editor, Adapting) else {}
        self._max_bytes = max_bytes
        self._frozen_by = frozen_by
        self._beside = editor.device.type != "cpu" if beside is None else beside
        self._kept = TensorCache(max_bytes)
        self._failed: dict[Adapter, tuple[float, AdapterUnusable]] = {}  # when, and why
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="adapters")
        self._reading: tuple[Adapter, Future[AdapterWeights]] | None = None
        self._applied: Adapter | None = None
        self._hooks: list[RemovableHandle] = []
        self._scales: Tensor | None = None
        self.held: tuple[str, ...] = ()  # names of those on the device; read by any thread
        self.loads = 0  # how often a file was read onto the device
        self.switches = 0  # how often another adapter, or none, was applied
        self.switch_s = 0.0  # what that took

    def check(self, adapter: Adapter | None) -> None:
        """Refuse an adapter where none can be applied; raises `OptionInvalid`. From any thread."""
        if adapter is None or (self._layers and self._frozen_by is None):
            return
        reason = f"model {self._editor.spec.name} takes none"
        if self._layers:
            reason = f"none can be applied with {self._frozen_by}, which the operator has set"
        raise OptionInvalid(f"style {adapter.name} has a LoRA, and {reason}", param="style")

    def is_ready(self, adapter: Adapter | None) -> bool:
        """Tell whether `hold` need not wait; where it would have to, the file is being read.

        One file is read at a time, and goes to the device before the next one is begun.
        """
        if adapter is None or not self._beside or self._kept.get(adapter) is not None:
            return True
        if self._failure(adapter) is not None:
            return True
        if self._reading is not None and self._reading[0] != adapter:
            if not self._reading[1].done():
                return False
            with suppress(Exception):  # of that one's own edits
                self.hold(self._reading[0])
        if self._reading is None:
            self._reading = adapter, self._reader.submit(self._read, adapter)
        return self._reading[1].done()

    def wait(self) -> None:
        """Wait a moment for what is being read."""
        wait([self._reading[1]] if self._reading else [], LOOK_AGAIN_S)

    def hold(self, adapter: Adapter) -> AdapterWeights:
        """Return an adapter's weights on the device; raises `AdapterUnusable`."""
        if (kept := self._kept.get(adapter)) is not None:
            return kept
        if (failure := self._failure(adapter)) is not None:
            raise failure
        try:
            weights = self._taken(adapter).to(self._editor.device, self._dtype())
            if weights.nbytes > self._max_bytes:
                raise adapter.unusable(
                    f"takes {weights.nbytes / 1e6:.1f} MB, and all that are loaded may take "
                    f"{self._max_bytes / 1e6:.1f} MB: raise lora_memory_mb"
                )
        except AdapterUnusable as error:
            self._failed[adapter] = time.monotonic(), error
            raise
        self._kept.put(adapter, weights)
        self.loads += 1
        self.held = tuple(held.name for held in self._kept)
        return weights

    def apply(self, adapter: Adapter | None, scales: Tensor | None) -> None:
        """Compute with this adapter from now on, at scales (N,) of each row; or with none."""
        self._scales = scales
        if adapter == self._applied:
            return
        start_s = time.perf_counter()
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._applied = [], None
        if adapter is not None:
            for name, low in self.hold(adapter).layers.items():
                hook = partial(self._add, low)
                self._hooks.append(self._layers[name].register_forward_hook(hook))
            self._applied = adapter
        self.switches += 1
        self.switch_s += time.perf_counter() - start_s

    def _failure(self, adapter: Adapter) -> AdapterUnusable | None:
        """Why an adapter could not be used a moment ago."""
        when, error = self._failed.get(adapter, (-TRY_AGAIN_S, None))
        return error if time.monotonic() - when < TRY_AGAIN_S else None

    def _taken(self, adapter: Adapter) -> AdapterWeights:
        """The weights from the thread that read them, or read here and now."""
        if self._reading is None or self._reading[0] != adapter:
            return self._read(adapter)
        (_, reading), self._reading = self._reading, None
        return reading.result()

    def _read(self, adapter: Adapter) -> AdapterWeights:
        """Read a file; whatever is wrong with it is `AdapterUnusable`."""
        if not isinstance(self._editor, Adapting):
            raise adapter.unusable(f"is of another model: {self._editor.spec.name} takes none")
        try:
            return read_lora(adapter, self._editor, self._layers)
        except AdapterUnusable:
            raise
        except Exception as error:  # of converters that were given something else
            raise adapter.unusable(f"cannot be read ({type(error).__name__}: {error})") from error

    def _dtype(self) -> torch.dtype:
        return self._editor.denoiser.dtype if isinstance(self._editor, Adapting) else torch.float32

    def _add(self, low: LowRank, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Any:
        """What a layer gives, and beside it what the low-rank weight makes of the same input."""
        if isinstance(layer, nn.Conv2d):
            moves: dict[str, Any] = {"padding": layer.padding, "dilation": layer.dilation}
            inner = functional.conv2d(inputs[0], low.down, stride=layer.stride, **moves)
            return output + functional.conv2d(self._scaled(inner), low.up)
        inner = functional.linear(inputs[0], low.down)
        return output + functional.linear(self._scaled(inner), low.up)

    def _scaled(self, inner: Tensor) -> Tensor:
        """Scale each row; some layers see every row several times, one turn after another."""
        if self._scales is None:
            return inner
        scales = self._scales.repeat(len(inner) // len(self._scales))
        return (inner * scales.view(-1, *[1] * (inner.ndim - 1))).to(inner.dtype)
