"""Contents and schemas that the official conformance suite asks for."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _pixel() -> bytes:
    """A PNG of one red pixel."""
    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _silence() -> bytes:
    """A WAV of one sample."""
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", 1)
    return b"RIFF" + struct.pack("<I", len(body) + 2) + body + b"\x80\0"


IMAGE = base64.b64encode(_pixel()).decode()
AUDIO = base64.b64encode(_silence()).decode()


def text(value: str) -> dict[str, Any]:
    """Text."""
    return {"type": "text", "text": value}


def image() -> dict[str, Any]:
    """An image."""
    return {"type": "image", "data": IMAGE, "mimeType": "image/png"}


def elicit(message: str, fields: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """A question for people; None requires every field."""
    names = [*fields] if required is None else required
    schema = {"type": "object", "properties": fields, **({"required": names} if names else {})}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sample(prompt: str, tokens: int) -> dict[str, Any]:
    """A question for a model."""
    messages = [{"role": "user", "content": text(prompt)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": tokens}}


MIXED = [
    text("Multiple content types test:"),
    image(),
    {
        "type": "resource",
        "resource": {
            "uri": "test://mixed-content-resource",
            "mimeType": "application/json",
            "text": '{"test":"data","value":123}',
        },
    },
]

DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}


def _titled(first: str) -> list[dict[str, str]]:
    titles = (f"First {first}", f"Second {first}", f"Third {first}")
    return [{"const": f"value{number}", "title": title} for number, title in enumerate(titles, 1)]


_OPTIONS = ["option1", "option2", "option3"]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": _OPTIONS},
    "titledSingle": {"type": "string", "oneOf": _titled("Option")},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": _titled("Choice")}},
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "test_sampling": {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]},
    "test_elicitation": {
        "type": "object",
        "properties": {"message": {"type": "string"}},
        "required": ["message"],
    },
    "test_header_param": {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
        "required": ["region"],
    },
    "json_schema_2020_12_tool": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
}
"""The schemas of tools that have arguments."""


def _arguments(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "description": f"The {name}.", "required": True} for name in names]


PROMPTS = [
    {"name": name, "description": f"For the suite: {name}.", "arguments": arguments}
    for name, arguments in {
        "test_simple_prompt": [],
        "test_prompt_with_arguments": _arguments("arg1", "arg2"),
        "test_prompt_with_embedded_resource": _arguments("resourceUri"),
        "test_prompt_with_image": [],
        "test_input_required_result_prompt": [],
    }.items()
]

RESOURCES = [
    {"uri": f"test://{name}", "name": name, "description": f"For the suite: {name}.", "mimeType": kind}
    for name, kind in {"static-text": "text/plain", "static-binary": "image/png"}.items()
]

TEMPLATES = [
    {
        "uriTemplate": "test://template/{id}/data",
        "name": "template",
        "description": "For the suite: a template.",
        "mimeType": "application/json",
    }
]
