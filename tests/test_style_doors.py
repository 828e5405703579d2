"""Bad styles and LoRAs through both doors: one list, and of each kind the same one line."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from batch_jobs.records import from_table
from batch_jobs.stages.edit import EditedRow
from batch_jobs.stages.in_process import StagesHere
from batch_jobs.stopping import Exit
from cli.main import main
from engine.actor import EditActor
from engine.config import EngineConfig
from engine.edit import EditOutcome, EditRequest
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.models import ServedModel
from serve_app.ingress.service import EditService
from tests.bad_styles import BAD_EDITS, SHOP
from tests.batch_jobs.jobs import job_here, ledger, left, run_here
from tests.batch_jobs.shapes import write_lines
from tests.batch_jobs.test_styled import config
from tests.conftest import photograph, png
from tests.engine.test_adapter import BAD as BAD_FILES
from tests.engine.test_adapter import GOOD
from tests.serve_app.conftest import Mirror, data_url
from tests.serve_app.test_several_images import Served
from tests.tiny import lora

FILE = png(photograph("coffee")[100:164, 150:214])
LORAS = ("changed", "gone", "warm")
RANK = 600  # of one layer, so that of `lora_memory_mb: 1` one fits
SPOILT = {
    "changed": "style changed: the LoRA changed.safetensors has changed since it was named: start",
    "gone": "style gone: the LoRA gone.safetensors cannot be read ",
}


def save(file: Path, seed: int) -> None:
    """A LoRA of pocket that changes next to nothing."""
    draw = torch.Generator().manual_seed(seed)
    down = torch.randn(RANK, 32, 3, 3, generator=draw) * 1e-3
    tensors = {"lora_A": down, "lora_B": torch.full((64, RANK, 1, 1), 1e-3)}
    lora.save(file, {f"unet.conv_in.{half}.weight": tensor for half, tensor in tensors.items()})


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a photograph, the styles, their LoRAs, and a configuration of both doors."""
    (tmp_path / "coffee.jpg").write_bytes(FILE)
    (tmp_path / "styles.yaml").write_text(SHOP)
    for seed, name in enumerate(LORAS):
        save(tmp_path / f"{name}.safetensors", seed)
    engine = {"styles": str(tmp_path / "styles.yaml"), "resolution": 64}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"engine": engine}))
    return tmp_path


class Here(Mirror):
    """A backend whose model is in this process."""

    def __init__(self, actor: EditActor) -> None:
        self._actor = actor

    async def edit(self, request: EditRequest) -> EditOutcome:
        (future,) = self._actor.submit([request])
        return await asyncio.wrap_future(future)


class ServedHere(Served):
    """The app with the styles of a configuration, over a backend."""

    def __init__(self, engine: EngineConfig, backend: Mirror) -> None:
        settings = ServeConfig(engine=engine, decode_workers=1)
        spec, styles = engine.find_model(), engine.find_styles()
        self.service = EditService(settings, [ServedModel(spec.name, spec, backend, styles)])
        self.app = make_app(self.service)

    def error(self, way: str, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send an edit as form or as JSON; the status and the error of its answer."""
        edit = {"prompt": "", "seed": 7, **fields}
        edit["prompt"] = edit.pop("instruction", "")
        sent: dict[str, Any] = {"json": {**edit, "images": [{"image_url": data_url(FILE)}]}}
        if way == "form":
            sent = {"data": edit, "files": [("image", ("coffee.png", FILE))]}
        response = self.ask(lambda client: client.post("/v1/images/edits", **sent))
        return response.status_code, json.loads(response.text)["error"]


@pytest.fixture
def served(shop: Path) -> Iterator[ServedHere]:
    made = ServedHere(config(shop).engine, Mirror())
    yield made
    made.service.close()


def test_twelve_kinds_of_bad_styles_are_refused_alike_by_row_by_form_and_by_json(
    shop: Path, served: ServedHere
) -> None:
    rows = [{"id": kind, "image": "coffee.jpg", **bad.fields} for kind, bad in BAD_EDITS.items()]
    for row in rows:
        row.setdefault("instruction", None)
    assert (
        run_here(write_lines(shop / "m.jsonl", rows), shop / "out", config(shop))
        == Exit.FAILED_ROWS
    )
    entries = ledger(shop / "out")
    messages = set()
    for kind, bad in BAD_EDITS.items():
        entry = entries[kind]
        message = entry["error_message"]
        assert (entry["error_code"], entry["error_param"]) == (bad.code, bad.param), message
        assert bad.says in message and "\n" not in message
        messages.add(message)
        param = "prompt" if bad.param == "instruction" else bad.param  # OpenAI's name of it
        answers = set()
        for way in ("form", "json") if isinstance(bad.fields.get("style", ""), str) else ("json",):
            status, error = served.error(way, bad.fields)
            assert (status, error["code"], error["param"]) == (400, bad.code, param), error
            assert bad.says in error["message"]
            answers.add(error["message"])
        assert message in answers  # a form has texts, JSON has types, and a row either
    assert len(messages) == len(BAD_EDITS) == 12


def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    """What a command says that refuses to begin."""
    monkeypatch.setattr(sys, "argv", ["rayedit", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr().err.strip()
    assert caught.value.code == 2, said
    return said


@pytest.mark.parametrize("kind", BAD_FILES)
def test_neither_door_opens_with_a_lora_that_no_model_could_use(
    kind: str, shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, says = BAD_FILES[kind]
    (shop / "warm.safetensors").unlink()
    write(shop / "warm.safetensors")
    manifest = write_lines(shop / "m.jsonl", [{"image": "coffee.jpg", "instruction": "add fog"}])
    configured = ("--config", str(shop / "config.yaml"))
    batch = refusal(monkeypatch, capsys, "batch", manifest, str(shop / "out"), *configured)
    serve = refusal(monkeypatch, capsys, "serve", *configured)
    assert batch == serve
    assert batch.startswith(f"rayedit: style warm: the LoRA {shop}") and "\n" not in batch
    assert re.search(says, batch)
    assert not (shop / "out").exists()


def test_a_lora_that_is_spoilt_while_it_is_not_held_fails_its_own_edits_alone(shop: Path) -> None:
    """Of the three, the last one read is held; a client reads no path of the server."""
    job_config = config(shop).model_copy(
        update={"engine": config(shop).engine.model_copy(update={"lora_memory_mb": 1})}
    )
    spec = job_config.engine.find_model()
    edits = {
        name: {"style": name, "instruction": "add fog", "num_inference_steps": 1}
        for name in ("warm", *SPOILT)
    }
    rows = [{"id": name, "image": "coffee.jpg", **edit} for name, edit in edits.items()]
    job = job_here(write_lines(shop / "m.jsonl", rows), shop / "out", job_config, spec)
    job.storage.make()
    run = job.block_run(left(job))
    with StagesHere(run) as stages, EditActor(job_config.engine, spec) as actor:
        served = ServedHere(job_config.engine, Here(actor))
        edited = from_table(EditedRow, stages.edit(stages.decode(run.todo.slice(0, 1))))
        save(shop / "changed.safetensors", seed=9)
        (shop / "gone.safetensors").unlink()
        edited += from_table(EditedRow, stages.edit(stages.decode(run.todo.slice(1))))
        answers = {name: served.error("json", edits[name]) for name in SPOILT}
        served.service.close()
    entries = {row.entry.id: row.entry for row in edited}
    assert entries["warm"].error_code is None
    for name, says in SPOILT.items():
        status, error = answers[name]
        assert (status, error["code"], error["param"]) == (500, "adapter_unusable", "style")
        assert error["message"].startswith(says) and str(shop) not in error["message"]
        entry = entries[name]
        assert (entry.error_code, entry.error_param) == ("adapter_unusable", "style")
        assert entry.error_message == error["message"]


def test_a_lora_of_another_base_stops_a_job_when_the_model_is_loaded(
    shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = shop / "warm.safetensors"
    half = torch.ones(2, 8, 3, 3)
    lora.save(file, {**GOOD, "unet.conv_in.lora_A.weight": half})
    rows = [{"id": "a", "image": "coffee.jpg", "instruction": "add fog"}]
    job_config = config(shop)
    spec = job_config.engine.find_model()
    code = run_here(write_lines(shop / "m.jsonl", rows), shop / "out", job_config, spec)
    assert code == Exit.STOPPED
    assert "style warm: the LoRA warm.safetensors is of another model: its conv_in" in caplog.text
