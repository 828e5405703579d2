"""Denoising steps as CUDA graphs: the host launches one graph in place of about 800 kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any

import torch

from engine.step import Call, KnownRegion, Step, StepResult

MAX_GRAPHS = 64
WARM_UP_RUNS = 2  # cuDNN and cuBLAS set themselves up outside of the capture

Denoise = Callable[[Step], StepResult]


class GraphedSteps:
    """A denoiser for a GPU: each shape of a step is captured when it is first met, and replayed."""

    def __init__(self, denoise: Denoise, reserve: Callable[[int], None]) -> None:
        """`reserve`: told how many bytes of the device each new graph keeps for itself."""
        self._denoise = denoise
        self._reserve = reserve
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # one, for cuBLAS keeps a workspace for each
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()

    def __call__(self, step: Step) -> StepResult:
        """Denoise; `latents` and `output` are the graph's own tensors: read them before the next
        step."""
        key = _key(step)
        if key not in self._graphs:
            self._graphs[key] = self._capture(step)
        self._graphs.move_to_end(key)
        if len(self._graphs) > MAX_GRAPHS:
            self._graphs.popitem(last=False)
        return self._graphs[key].replay(step)

    def _capture(self, step: Step) -> _Graph:
        before = torch.cuda.memory_reserved()
        with torch.cuda.stream(self._stream):
            self._stream.wait_stream(torch.cuda.default_stream())
            graph = _Graph(self._denoise, step, self._pool, self._stream)
        torch.cuda.current_stream().wait_stream(self._stream)
        self._reserve(max(torch.cuda.memory_reserved() - before, 0))
        return graph


class _Graph:
    """One captured step, and the tensors that it reads and writes."""

    def __init__(self, denoise: Denoise, step: Step, pool: Any, stream: torch.cuda.Stream) -> None:
        self._inputs = _clone(step)
        self._call = step.call  # whose values are in the inputs now
        for _ in range(WARM_UP_RUNS):
            denoise(self._inputs)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=stream):
            self._outputs = denoise(self._inputs)

    def replay(self, step: Step) -> StepResult:
        """Compute a step of the shape that was captured."""
        self._inputs.state.copy_(step.state)
        self._inputs.coefficients.copy_(step.coefficients)
        self._inputs.noise.copy_(step.noise)
        if step.call is not self._call:
            for mine, theirs in zip(_tensors(self._inputs.call), _tensors(step.call), strict=True):
                mine.copy_(theirs)
            self._call = step.call
        self._graph.replay()
        return replace(self._outputs, state=self._outputs.state.clone())


def _tensors(call: Call) -> Iterator[torch.Tensor]:
    yield from (call.owner, call.index, call.weights)
    yield from (call.inputs[name] for name in sorted(call.inputs))
    if call.known is not None:
        yield from (call.known.mask, call.known.source, call.known.first)


def _key(step: Step) -> Hashable:
    """Everything that a captured step depends on beside values."""
    shapes = tuple(tuple(tensor.shape) for tensor in _tensors(step.call))
    names = tuple(sorted(step.call.inputs))
    masked = step.call.known is not None
    return tuple(step.state.shape), step.call.layout, masked, names, shapes


def _clone(step: Step) -> Step:
    call, known = step.call, step.call.known
    if known is not None:
        known = KnownRegion(known.mask.clone(), known.source.clone(), known.first.clone())
    own = replace(
        call,
        owner=call.owner.clone(),
        index=call.index.clone(),
        weights=call.weights.clone(),
        inputs={name: tensor.clone() for name, tensor in call.inputs.items()},
        known=known,
    )
    return Step(step.state.clone(), step.noise.clone(), step.coefficients.clone(), own)
