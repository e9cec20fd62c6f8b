"""``python -m kdlight.cli``, for launchers such as torchrun that start a module."""

from __future__ import annotations

from kdlight.cli.main import main

if __name__ == "__main__":
    main()
