"""The command line: ``kdlight fit|validate|test|predict|export``."""

from __future__ import annotations

from kdlight.cli.main import DistillationCLI, main

__all__ = ["DistillationCLI", "main"]
