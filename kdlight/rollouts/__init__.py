"""Engines that generate text: a network in this process, or a server that gets its weights."""

from __future__ import annotations

from kdlight.rollouts.engine import RolloutEngine
from kdlight.rollouts.hugging_face import HuggingFaceRollouts
from kdlight.rollouts.vllm import VLLMRollouts
from kdlight.rollouts.writer import Writer

__all__ = ["HuggingFaceRollouts", "RolloutEngine", "VLLMRollouts", "Writer"]
