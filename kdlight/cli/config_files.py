"""Config files that share parts: ``data: base/text.yaml`` instead of the lines of that file.

The value of a key in `PARTS` may be the path of another YAML file, relative to the file that names
it. A mapping with the key ``base`` includes a file and overrides values of it::

    data: base/text.yaml
    trainer:
      base: base/short_run.yaml
      max_steps: 200

Mappings are merged; any other value replaces that of the base. A base may include others, and
a whole file may have a base.

The files are combined before the parser reads the config. So interpolation from the root
(``${model.init_args.temperature}``) works in a base, options on the command line and further
``--config`` files override its values, and ``--print_config`` and the saved ``config.yaml`` contain
no paths of bases. jsonargparse can read an object from a path by itself, but interpolates within
that file only, and a config cannot override a single value of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

PARTS = (
    "model",
    "data",
    "trainer",
    "student",
    "teacher",
    "network",
    "objective",
    "optimizer",
    "lr_scheduler",
)
"""Keys whose value may be the path of a file."""


def read_config(path: str | Path, included_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a config and replace each part that is a path by the content of that file.

    Args:
        path: the config.
        included_by: the files that include it, outermost first.

    Raises:
        ValueError: a file is not a mapping, is not valid YAML, or includes itself; a base does not
            exist.

    Example:
        >>> from kdlight.configs import __path__ as folders
        >>> read_config(f"{folders[0]}/taid.yaml")["data"]["class_path"]
        'kdlight.data.TextDataModule'
    """
    path = Path(path).absolute()
    if path.resolve() in included_by:
        raise ValueError(f"{path} includes itself, through {included_by[-1]}")
    try:
        config = get_loader("yaml")(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must be a mapping, got {type(config).__name__}")
    return _merge_base(config, (*included_by, path.resolve()))


def merge(base: Any, override: Any) -> Any:
    """Return ``base`` with the values of ``override``; mappings are merged, other values replaced.

    Example:
        >>> merge({"lr": 0.1, "betas": [0.9, 0.99]}, {"betas": [0.9]})
        {'lr': 0.1, 'betas': [0.9]}
    """
    if not (isinstance(base, dict) and isinstance(override, dict)):
        return override
    merged = {key: merge(base[key], override[key]) for key in base.keys() & override.keys()}
    return {**base, **override, **merged}


def to_text(config: dict[str, Any]) -> str:
    """Return a config as YAML; strings are quoted, so that ``"1e-3"`` stays a string."""
    return yaml.safe_dump(config, default_style='"', sort_keys=False, allow_unicode=True)


def _include(node: Any, files: tuple[Path, ...]) -> Any:
    """Replace the parts in ``node``, which is in the last one of ``files``."""
    if isinstance(node, list):
        return [_include(value, files) for value in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _merge_base(value, files) if key in PARTS else _include(value, files)
        for key, value in node.items()
    }


def _merge_base(value: Any, files: tuple[Path, ...]) -> Any:
    """Return a part with its base, if it has one."""
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        value = {"base": value}
    if not isinstance(value, dict) or "base" not in value:
        return _include(value, files)
    path = files[-1].parent / str(value["base"])
    if not path.is_file():
        raise ValueError(
            f"{value['base']} in {files[-1]} does not exist ({path}); a path is relative to the"
            " file that names it. To copy a config to another folder, write it with"
            " --print_config, which includes its bases"
        )
    override = {key: each for key, each in value.items() if key != "base"}
    return merge(read_config(path, files), _include(override, files))
