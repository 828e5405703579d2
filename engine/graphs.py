"""Denoising steps as CUDA graphs: the host launches one graph in place of about 800 kernels."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import torch

from engine.memory import CudaMemory
from engine.step import Predict, Rows, Step, Stepped, denoise

MAX_GRAPHS = 64
WARM_UP_RUNS = 2  # cuDNN and cuBLAS set themselves up outside of the capture

Key = tuple[Any, ...]


class GraphedSteps:
    """`denoise` for a GPU: each shape of a step is captured when it is first met, and replayed."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # one, for cuBLAS keeps a workspace for each
        self._graphs: OrderedDict[Key, _Graph] = OrderedDict()

    def __call__(self, step: Step) -> Stepped:
        """`latents` and `output` are the graph's own tensors: read them before the next step."""
        key = _key(step)
        if key not in self._graphs:
            before = torch.cuda.memory_reserved()
            with torch.cuda.stream(self._stream):
                self._stream.wait_stream(torch.cuda.default_stream())
                self._graphs[key] = _Graph(self._predict, step, self._pool, self._stream)
            torch.cuda.current_stream().wait_stream(self._stream)
            CudaMemory.graph_bytes += max(torch.cuda.memory_reserved() - before, 0)
        self._graphs.move_to_end(key)
        if len(self._graphs) > MAX_GRAPHS:
            self._graphs.popitem(last=False)
        return self._graphs[key].replay(step)


class _Graph:
    """One captured step, and the tensors that it reads and writes."""

    def __init__(self, predict: Predict, step: Step, pool: Any, stream: torch.cuda.Stream) -> None:
        self._inputs = _clone(step)
        self._rows = step.rows  # whose values are in the inputs now
        for _ in range(WARM_UP_RUNS):
            denoise(predict, self._inputs)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=stream):
            self._outputs = denoise(predict, self._inputs)

    def replay(self, step: Step) -> Stepped:
        self._inputs.state.copy_(step.state)
        self._inputs.numbers.copy_(step.numbers)
        self._inputs.noise.copy_(step.noise)
        if step.rows is not self._rows:
            for mine, theirs in zip(_tensors(self._inputs.rows), _tensors(step.rows), strict=True):
                mine.copy_(theirs)
            self._rows = step.rows
        self._graph.replay()
        return replace(self._outputs, state=self._outputs.state.clone())


def _tensors(rows: Rows) -> list[torch.Tensor]:
    return [
        rows.owner,
        rows.index,
        rows.weights,
        *(rows.inputs[name] for name in sorted(rows.inputs)),
    ]


def _key(step: Step) -> Key:
    """Everything that a captured step depends on beside values."""
    shapes = (tuple(tensor.shape) for tensor in _tensors(step.rows))
    return (tuple(step.state.shape), *shapes)


def _clone(step: Step) -> Step:
    rows = step.rows
    return Step(
        step.state.clone(),
        step.noise.clone(),
        step.numbers.clone(),
        Rows(
            rows.owner.clone(),
            rows.index.clone(),
            rows.weights.clone(),
            {name: tensor.clone() for name, tensor in rows.inputs.items()},
            rows.padding,
        ),
    )
