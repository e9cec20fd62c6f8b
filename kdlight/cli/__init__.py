"""The command line: ``kdlight fit|validate|test|predict``, and the commands in ``COMMANDS``."""

from __future__ import annotations

from kdlight.cli.lightning_cli import DistillationCLI
from kdlight.cli.main import COMMANDS, main

__all__ = ["COMMANDS", "DistillationCLI", "main"]
