"""``python -m kdlight``, the command ``kdlight`` for launchers that start a module."""

from __future__ import annotations

from kdlight.cli.main import main

if __name__ == "__main__":
    main()
