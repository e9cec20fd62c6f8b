"""Dialects: how different servers are asked for the same thing."""

from __future__ import annotations

from kdlight.remote.dialects.dialect import Dialect
from kdlight.remote.dialects.kdlight_server import KdlightServer
from kdlight.remote.dialects.sglang import SGLang
from kdlight.remote.dialects.text_keyed import TextKeyed
from kdlight.remote.dialects.trl import TRL
from kdlight.remote.dialects.vllm import VLLM

DIALECTS: dict[str, type[Dialect]] = {
    "kdlight": KdlightServer,
    "vllm": VLLM,
    "sglang": SGLang,
    "trl": TRL,
    "text": TextKeyed,
}
"""All dialects by name, in the order in which a server is asked which one it speaks."""

__all__ = ["DIALECTS", "Dialect", "KdlightServer", "SGLang", "TRL", "TextKeyed", "VLLM"]
