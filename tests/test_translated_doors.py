"""An operator's translator behind both doors: what the model read is said, and remembered."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import httpx

from batch_jobs.config import JobConfig
from batch_jobs.ledger.fingerprint import Fingerprints
from batch_jobs.manifest.plan import read_manifest
from batch_jobs.stopping import Exit
from engine import EditActor, EngineConfig
from engine.edit import EditOutcome, EditRequest
from engine.png import text_of
from engine.recipe import read_command
from engine.registry import find_model
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from tests.batch_jobs.jobs import ledger, run_here
from tests.batch_jobs.shapes import write_lines
from tests.conftest import photograph, png
from tests.serve_app.conftest import Mirror, service_of
from tests.translator import Translator, translator

__all__ = ["translator"]

ENGLISH = replace(find_model("pocket", resolution=64), scripts=("LATIN",))
PHOTO = png(photograph("coffee")[:128, :192])
FEW = {"seed": 7, "num_inference_steps": 2}


class Replica(Mirror):
    """The replica's actor, without Serve."""

    def __init__(self, actor: EditActor) -> None:
        self._actor = actor

    async def edit(self, request: EditRequest) -> EditOutcome:
        (future,) = self._actor.submit([request])
        return await asyncio.wrap_future(future)


def answers(actor: EditActor, *forms: dict[str, object]) -> list[httpx.Response]:
    service = service_of(ServeConfig(decode_workers=1), ENGLISH, Replica(actor))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(make_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return [
                await client.post(
                    "/v1/images/edits", data={**FEW, **form}, files={"image": ("a.png", PHOTO)}
                )
                for form in forms
            ]

    try:
        return asyncio.run(ask())
    finally:
        service.close()


def test_both_doors_say_what_the_model_read_and_fail_alone(
    translator: Translator, tmp_path: Path
) -> None:
    engine = EngineConfig(translate=translator.url, num_threads=1, determinism="strict")
    (tmp_path / "a.png").write_bytes(PHOTO)
    texts = {"zh": "变成夜晚", "en": "make it night", "bad": "别的"}
    lines = [{"id": id, "image": "a.png", "instruction": text, **FEW} for id, text in texts.items()]
    manifest = write_lines(tmp_path / "m.jsonl", lines)
    config = JobConfig(engine=engine)
    assert run_here(manifest, tmp_path / "out", config, ENGLISH) == Exit.FAILED_ROWS
    rows = ledger(tmp_path / "out")
    assert rows["zh"]["instruction"] == "变成夜晚"
    assert rows["zh"]["instruction_used"] == "make it night"
    assert rows["en"]["instruction_used"] is None
    assert (rows["bad"]["status"], rows["bad"]["error_code"]) == ("error", "translation_failed")
    files = {id: Path(rows[id]["outputs"][0]["uri"]).read_bytes() for id in ("zh", "en")}
    assert files["zh"] == files["en"]
    words = read_command(text_of(files["zh"]) or "")
    assert words and words[3] == "make it night"  # no translator is needed to make it again

    with EditActor(engine, ENGLISH) as actor:
        chinese, bad, addressed = answers(
            actor,
            {"prompt": "变成夜晚"},
            {"prompt": "别的"},
            {"prompt": "变成夜晚", "translate": "http://127.0.0.1:9/v1"},
        )
    assert chinese.status_code == 200, chinese.text
    assert json.loads(chinese.text)["instruction_used"] == "make it night"
    assert bad.status_code == 502 and bad.json()["error"]["code"] == "translation_failed"
    assert addressed.status_code == 400 and addressed.json()["error"]["param"] == "translate"


def test_the_translator_is_in_the_fingerprint_of_what_it_translates(tmp_path: Path) -> None:
    lines = [
        {"id": id, "image": "a.png", "instruction": text}
        for id, text in (("zh", "变成夜晚"), ("en", "make it night"))
    ]
    plan = read_manifest(write_lines(tmp_path / "m.jsonl", lines))

    def prints(spec: str, **given: str) -> list[str]:
        model = ENGLISH if spec == "english" else find_model("pocket")
        made = Fingerprints(model, "1", EngineConfig(**given), 0).add_to(plan)
        return made["fingerprint"].to_pylist()

    off, phrases = prints("english"), prints("english", translate="phrases")
    url = prints("english", translate="http://host/v1")
    assert len({off[0], phrases[0], url[0]}) == 3 and off[1] == phrases[1] == url[1]
    assert prints("both") == prints("both", translate="phrases")
