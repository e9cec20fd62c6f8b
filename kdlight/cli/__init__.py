"""The command line: ``kdlight fit|validate|test|predict``, and the commands in ``COMMANDS``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdlight.cli.main import COMMANDS as COMMANDS
from kdlight.cli.main import main as main
from kdlight.lazy import lazy_exports

if TYPE_CHECKING:
    from kdlight.cli.lightning_cli import DistillationCLI as DistillationCLI
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
