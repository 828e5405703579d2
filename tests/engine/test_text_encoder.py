"""Where texts are read changes no byte on a CPU, and with `swap` no layer stays on the device.

That the device of `cpu` holds no text encoder takes a GPU to show: tests/gpu.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from engine import EngineConfig
from engine.capacity import Capacity
from engine.config import TextEncoderPlace
from engine.edit import EditRequest, EditResult
from engine.loading import cost_settings, load_model
from engine.loop import DenoiseLoop
from engine.models import Editor, Placement
from engine.models.text_encoder import TextEncoder
from engine.registry import find_model
from tests.engine.families import FAMILIES, Family, edits_of, one_thread, request_of
from tests.engine.test_loop import run

PLACES = get_args(TextEncoderPlace)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


def loaded(folder: Path, place: TextEncoderPlace) -> Editor:
    config = EngineConfig(device="cpu", dtype="float32", text_encoder=place)
    return load_model(find_model(str(folder)), config).editor


def edited(editor: Editor, request: EditRequest) -> np.ndarray:
    (outcome,) = run(DenoiseLoop(editor, Capacity(8)), [request]).values()
    assert isinstance(outcome, EditResult), outcome
    return outcome.images[0]


def encoders_of(held: Any) -> list[TextEncoder]:
    """Those that an editor holds, itself or by what reads its texts."""
    if isinstance(held, TextEncoder):
        return [held]
    if isinstance(held, tuple):
        return [found for one in held for found in encoders_of(one)]
    if type(held).__module__.startswith("engine.models"):
        return [found for one in vars(held).values() for found in encoders_of(one)]
    return []


@dataclass
class Watched:
    """The weights of a text encoder, looked at whenever one of its modules computes."""

    weights: Sequence[torch.Tensor]
    homes: Sequence[int]  # the addresses that they have at rest
    calls: int = 0
    most_away: int = 0  # weights that were elsewhere at a time
    computed_at_home: int = 0  # modules that computed with a weight that was not elsewhere

    @classmethod
    def of(cls, model: nn.Module) -> Watched:
        weights = list({id(w): w for w in (*model.parameters(), *model.buffers())}.values())
        watched = cls(weights, [weight.data_ptr() for weight in weights])
        home = {id(w): address for w, address in zip(weights, watched.homes, strict=True)}

        def look(module: nn.Module, _: Any) -> None:
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            watched.calls += 1
            watched.most_away = max(watched.most_away, watched.away())
            watched.computed_at_home += any(w.data_ptr() == home[id(w)] for w in own)

        for module in model.modules():
            module.register_forward_pre_hook(look)
        return watched

    def away(self) -> int:
        pairs = zip(self.weights, self.homes, strict=True)
        return sum(weight.data_ptr() != home for weight, home in pairs)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_where_texts_are_read_changes_no_byte(family: Family, tiny: Callable[[str], Path]) -> None:
    folder = tiny(family.name)
    edit = edits_of(family)[1]  # with every text
    edit = replace(edit, options={**edit.options, "num_inference_steps": 2})
    request = request_of(find_model(str(folder)), edit)
    pictures: dict[str, np.ndarray] = {}
    for place in PLACES:
        editor = loaded(folder, place)
        encoders = encoders_of(editor)
        assert encoders
        watched = [Watched.of(encoder.model) for encoder in encoders]
        pictures[place] = edited(editor, request)
        calls = sum(one.calls for one in watched)
        for one in watched:
            assert one.calls
            assert one.away() == 0  # all are home again
            if place == "swap":
                assert one.computed_at_home == 0
                assert 0 < one.most_away < len(one.weights)
            else:
                assert one.most_away == 0
        assert np.array_equal(edited(editor, request), pictures[place])
        assert sum(one.calls for one in watched) == calls  # its texts are kept
    assert np.array_equal(pictures["cpu"], pictures["device"])
    assert np.array_equal(pictures["swap"], pictures["device"])


def test_a_layer_that_fails_leaves_no_weight_on_the_device(tiny: Callable[[str], Path]) -> None:
    """As where the device's memory is too small for it: the next text is read as ever."""
    editor = loaded(tiny("flux-kontext"), "swap")
    t5 = encoders_of(editor)[1]
    watched = Watched.of(t5.model)
    ids = torch.tensor([[5, 6, 7]])

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("made up")

    with torch.inference_mode():
        before = t5(ids)[0]
        hook = t5.model.encoder.block[-1].layer[0].register_forward_pre_hook(fail)
        with pytest.raises(torch.OutOfMemoryError, match="made up"):
            t5(ids)
        hook.remove()
        assert watched.away() == 0
        assert torch.equal(t5(ids)[0], before)


def test_only_one_layer_is_on_the_device_at_a_time() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(5))
            self.norm = nn.LayerNorm(4, bias=False)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            for layer in self.layers:
                x = layer(x)
            return {"read": self.norm(x)}

    encoder = TextEncoder(Reader(), Placement(CPU, torch.float32, "swap"))
    watched = Watched.of(encoder.model)
    with torch.inference_mode():
        encoder(torch.ones(1, 4))
    assert watched.most_away == 2  # a layer, and the norm


def test_a_calibration_is_of_one_place_for_texts() -> None:
    """The text encoder's weights take room from the samples."""
    found = [
        cost_settings(EngineConfig(num_threads=1, text_encoder=place), CPU) for place in PLACES
    ]
    assert found == [
        "1 threads, channels_last",
        "1 threads, channels_last, text_encoder cpu",
        "1 threads, channels_last, text_encoder swap",
    ]
