"""Requests and responses of the service, which define its OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from edge_ocr.core.settings import MAX_DETECTION_SIDE

# 16 × 8 white pixels: short enough for a document.
_EXAMPLE_IMAGE = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAIAQAAAADYDUI6AAAADklEQVR42mP4/58BGwIAv1gP8dMhLvgAAAAASUVORK5CYII="


Corner = Annotated[list[int], Field(min_length=2, max_length=2)]
Poly = Annotated[list[Corner], Field(min_length=4, max_length=4)]


class InferenceParams(BaseModel):
    """How one picture is read."""

    model_config = ConfigDict(extra="forbid")

    maxLongSide: Annotated[
        int | None,
        Field(
            ge=32,
            le=MAX_DETECTION_SIDE,
            strict=True,
            description="Longest side in pixels at which text is detected; larger pictures are scaled down to it. "
            "Default: the service's own setting, which is 960 plus windows for small text in large pictures.",
        ),
    ] = None
    returnWordBox: Annotated[
        bool | None,
        Field(
            strict=True,
            description="Whether each line has its words with their boxes. Default: the service's own setting, "
            "Recognition.return_words.",
        ),
    ] = None
    returnCharBox: Annotated[
        bool | None,
        Field(strict=True, description="Whether also each word has its characters with their boxes."),
    ] = None


class OcrRequest(BaseModel):
    """A picture to read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"image": _EXAMPLE_IMAGE, "inferenceParams": {"maxLongSide": 960}}]},
    )

    image: Annotated[
        str,
        Field(
            min_length=1,
            description="http(s) URL of a picture, or its file in Base64: AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, "
            "TIFF, WebP or PDF, with one page.",
        ),
    ]
    inferenceParams: InferenceParams | None = None


class Character(BaseModel):
    """One character of a word."""

    text: str
    score: Annotated[float, Field(ge=0, le=1, description="Probability of the character.")]
    poly: Annotated[Poly, Field(description="As that of the line: as high as its ink, as wide as the character.")]


class Word(BaseModel):
    """One word of a line."""

    text: str
    score: Annotated[float, Field(ge=0, le=1, description="Mean probability of the characters.")]
    poly: Annotated[Poly, Field(description="As that of the line: as high as its ink, as wide as the word.")]
    chars: Annotated[
        list[Character] | SkipJsonSchema[None],
        Field(
            description="In the order in which they are read. Only with returnCharBox.",
            json_schema_extra=lambda schema: schema.pop("default"),
        ),
    ] = None


class Text(BaseModel):
    """One line of text."""

    poly: Annotated[
        Poly,
        Field(
            description="Corners [x, y] in pixels of the upright picture: top left, top right, bottom right, bottom "
            "left.",
        ),
    ]
    text: str
    score: Annotated[float, Field(ge=0, le=1, description="Mean probability of the characters.")]
    words: Annotated[
        list[Word] | SkipJsonSchema[None],
        Field(
            description="In the order in which they are read. Only with returnWordBox or returnCharBox.",
            json_schema_extra=lambda schema: schema.pop("default"),
        ),
    ] = None


class OcrResultBody(BaseModel):
    """The text that was read."""

    texts: Annotated[
        list[Text], Field(description="From top to bottom, and within a row in the direction of the text.")
    ]
    page_angle: Annotated[
        Literal[0, 90, 180, 270] | SkipJsonSchema[None],
        Field(
            description="How far the page is turned clockwise in the picture, in degrees. Only with page orientation.",
            json_schema_extra=lambda schema: schema.pop("default"),
        ),
    ] = None
    image: Annotated[str, Field(description="The upright picture with the boxes drawn: a JPEG in Base64.")]


class OcrAnswer(BaseModel):
    """Response for a picture that was read."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "errorCode": 0,
                    "errorMsg": "Success",
                    "result": {
                        "texts": [
                            {
                                "poly": [[122, 112], [510, 112], [510, 220], [122, 220]],
                                "text": "山茶书店",
                                "score": 0.997,
                            }
                        ],
                        "image": "/9j/4AAQSkZJRg…",
                    },
                }
            ]
        }
    )

    errorCode: int = 0
    errorMsg: str = "Success"
    result: OcrResultBody


class Failure(BaseModel):
    """Response for a request that failed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"errorCode": 422, "errorMsg": "picture is truncated or damaged"}]}
    )

    errorCode: Annotated[int, Field(description="The HTTP status.")]
    errorMsg: str


class Health(BaseModel):
    """Response of a service that is ready."""

    status: str = "ok"
    version: str
    models: dict[str, str]
    engines: dict[str, str]
