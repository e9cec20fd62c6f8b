"""One whole, runnable fit a file: ``kdlight fit --config configs/NAME.yaml``."""
