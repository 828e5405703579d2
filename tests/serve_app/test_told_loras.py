"""What a replica tells of its LoRAs: those that the engine holds, and those about to be read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from engine.adapter import Adapter
from engine.edit import EditRequest
from engine.options import EditOptions
from engine.spec import ModelSpec
from serve_app.replica.loras import ToldLoras


def test_a_lora_is_told_before_it_is_read_and_until_it_has_left(pocket: ModelSpec) -> None:
    plain = EditRequest("a", np.zeros((8, 8, 3), np.uint8), "", pocket.resolve(EditOptions(), 0))
    ink = replace(plain, adapter=Adapter("ink", "", ""))
    held, told = ["film"], list[Collection[str]]()
    loras = ToldLoras(lambda: held, told.append)
    with loras.asked(plain):
        assert told == [{"film"}]
    with loras.asked(ink):
        assert told[1:] == [{"film", "ink"}]
        with loras.asked(ink):
            held[:] = ["ink"]  # film was used longest ago
        assert told[2:] == [{"ink"}]
    assert len(told) == 3  # nothing is told twice
    with loras.asked(replace(plain, adapter=Adapter("gone", "", ""))):
        pass  # its file could not be read
    assert told[3:] == [{"gone", "ink"}, {"ink"}]
