"""The answers of the API, as OpenAPI documents them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from engine.edit import EditReport
from engine.options import MAX_SEED, Quality
from engine.wire import OutputFormat

_REPORT = (
    "where `detail`, `preserve` or a mask keeps something of the source, or `measures`, `repair` "
    "or `auto_guidance` compare with it: `changed_share` of the picture, 0 to 1, `outside_change`, "
    "how far the rest moved in levels of 0 to 255, what was `measured` and `repaired`, and how it "
    "was `guided`: the `tries`, and the scales of the one that was taken"
)

_UNDERSTOOD = (
    "with the warning `instruction_unknown`: the edit that was made, as an instruction that the "
    "model knows"
)
_INSTRUCTION_USED = "what the model read, where the server translated the prompt"
_RETURNED_MASK = "with `return_mask`: a PNG as `mask` takes it, transparent where the edit is"


ShownBackground = Literal["opaque", "transparent"]
_BACKGROUND = "as it was asked for; transparent: where the source is, and nowhere in a preview"


class EditedImage(BaseModel):
    """One edited image."""

    b64_json: str | None = Field(default=None, description="the image file, base64")
    url: str | None = Field(
        default=None, description="with `response_format=url`: where the image file is, for a while"
    )
    seed: int = Field(ge=0, le=MAX_SEED, description="sent as `seed`, it gives this image again")
    edit_report: EditReport | None = Field(default=None, description=_REPORT)
    mask_b64_json: str | None = Field(default=None, description=_RETURNED_MASK)


class TokenDetails(BaseModel):
    image_tokens: int = 0
    text_tokens: int = 0


class Usage(BaseModel):
    """OpenAI's clients require it; this server bills nothing and counts no tokens."""

    input_tokens: int = 0
    input_tokens_details: TokenDetails = TokenDetails()
    output_tokens: int = 0
    total_tokens: int = 0


class ImagesResponse(BaseModel):
    """OpenAI's `ImagesResponse`, and each image's seed, the model and warnings."""

    created: int = Field(description="unix time in seconds")
    data: list[EditedImage] = Field(description="`n` images: b64_json or url, and seed of each")
    background: ShownBackground = Field(default="opaque", description=_BACKGROUND)
    output_format: OutputFormat = Field(description="of every image")
    quality: Quality = Field(description="as it was asked for")
    size: str = Field(description="WIDTHxHEIGHT of every image in px")
    model: str = Field(description="the model that edited")
    warnings: list[str] = Field(description="codes of what was softened, such as cmyk_converted")
    understood_as: str | None = Field(default=None, description=_UNDERSTOOD)
    instruction_used: str | None = Field(default=None, description=_INSTRUCTION_USED)
    usage: Usage = Field(default=Usage(), description="zeros: no tokens are counted")


class ImageEvent(BaseModel):
    """The fields of both events of a stream."""

    b64_json: str = Field(description="the image file, base64")
    created_at: int = Field(description="unix time in seconds")
    size: str = Field(description="WIDTHxHEIGHT in px")
    quality: Quality = Field(description="as it was asked for")
    background: ShownBackground = Field(default="opaque", description=_BACKGROUND)
    output_format: OutputFormat


class PartialImageEvent(ImageEvent):
    """`image_edit.partial_image`: the first image as the model expects it at this step."""

    type: Literal["image_edit.partial_image"] = "image_edit.partial_image"
    partial_image_index: int = Field(ge=0, le=2, description="counts from 0")


class CompletedEvent(ImageEvent):
    """`image_edit.completed`: an edited image; one event for each of `n`, in order."""

    type: Literal["image_edit.completed"] = "image_edit.completed"
    usage: Usage = Usage()
    seed: int = Field(ge=0, le=MAX_SEED, description="sent as `seed`, it gives this image again")
    model: str = Field(description="the model that edited")
    edit_report: EditReport | None = Field(default=None, description=_REPORT)
    mask_b64_json: str | None = Field(default=None, description=_RETURNED_MASK)
    warnings: list[str] = Field(description="codes of what was softened")
    understood_as: str | None = Field(default=None, description=_UNDERSTOOD)
    instruction_used: str | None = Field(default=None, description=_INSTRUCTION_USED)


ModelStatus = Literal["ready", "starting", "idle", "failed"]
_STATUS = (
    "ready: a replica has it loaded; starting: one is loading it; idle: none is kept while nobody "
    "asks, and the first edit waits for one; failed: it cannot be loaded"
)


class ModelStyle(BaseModel):
    """A style that edits by a model can name."""

    id: str = Field(description="sent as `style`")
    description: str
    template: str = Field(
        description="what the model reads; without {instruction} an edit has no prompt of its own"
    )
    options: dict[str, Any] = Field(
        description="what an edit in it has that does not say; the rest is the model's"
    )


class Model(BaseModel):
    """A served model: OpenAI's fields, and what an option defaults to."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="unix time in seconds at which this server started")
    owned_by: Literal["rayedit"] = "rayedit"
    resolution_px: int = Field(description="side that an edit without `size` is about")
    size_multiple_px: int = Field(description="each side of `size` is a multiple of it")
    max_side_px: int = Field(description="largest side of `size`")
    max_sources: int = Field(description="images that one edit may start from")
    options: list[str] = Field(description="the options of an edit that it has")
    schedulers: list[str] = Field(
        description="samplers by name; an edit refuses one that is not of it"
    )
    defaults: dict[str, int | float | str] = Field(description="by option of an edit")
    styles: list[ModelStyle] = Field(description="the styles that an edit can name")
    status: ModelStatus | None = Field(default=None, description=_STATUS)


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model] = Field(
        description="the served models; an edit without `model` has the first"
    )


class Health(BaseModel):
    """`ok`: this process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """`ready`: a replica has its model loaded and answers."""

    status: Literal["ready"] = "ready"
    model: str
    revision: str = Field(description="hub commit, or the digest of the weights")
    in_flight: int = Field(description="edits that the replica which answered waits for or runs")


class ModelsReadiness(BaseModel):
    """`ready`: of several models one at least can be edited by."""

    status: Literal["ready"] = "ready"
    models: dict[str, ModelStatus] = Field(description=_STATUS)


class ErrorDetail(BaseModel):
    message: str = Field(description="what was wrong, the value, the bound, what to do")
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = Field(description="the field that was wrong")
    code: str | None = Field(description="one of the codes in docs/errors.md")


class ErrorBody(BaseModel):
    """OpenAI's error body: all four keys, always."""

    error: ErrorDetail


_STATUSES = {
    400: "the request's fault: the image, an option or the instruction",
    401: "the API key is missing or wrong",
    404: "no such model, file, batch or route",
    408: "the body came too slowly",
    413: "the body is over the limit",
    415: "neither multipart/form-data nor application/json",
    422: "the path or query cannot be read",
    429: "this API key sends too much; `retry-after` says when to try again",
    500: "the server's fault",
    502: "the server's translator failed",
    503: "not ready, overloaded, or the worker died; `retry-after` says when to try again",
    504: "not done within the deadline",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for these statuses."""
    return {status: {"model": ErrorBody, "description": _STATUSES[status]} for status in statuses}
