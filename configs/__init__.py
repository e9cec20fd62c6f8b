"""One runnable fit in each file: ``kdlight fit --config configs/NAME.yaml``.

Configs include the files of ``base/``, as `kdlight.cli.config_files` describes. The files of
``strategy/`` are laid over a config.
"""
