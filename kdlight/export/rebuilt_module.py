"""The module of a checkpoint, built again from its hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pydoc import locate
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from kdlight.checkpoints import check_trusted
from kdlight.export.merge_changes import merge_changes
from kdlight.models import StudentRecipe
from kdlight.modules.base import DistillationBase

ONLY_IN_A_FIT = ("optimizer", "lr_scheduler", "lr_scheduler_config")
"""Arguments of the modules of kdlight that a network is built without."""


def build_module(
    hyper_parameters: Mapping[str, Any],
    *,
    trust: bool = False,
    rebuilding: Mapping[str, Any] | None = None,
) -> DistillationBase:
    """Build the module that a checkpoint's hyper-parameters describe, with new weights.

    The teacher is loaded only if the student is built from it.

    Args:
        hyper_parameters: those of the checkpoint.
        trust: import and run other code as well that they name.
        rebuilding: what to change in them, so that students are built without data that recipes
            measured their teacher on.

    Raises:
        ValueError: If there are no class paths, because the module was created in Python; or code
            is named that is not trusted.

    Example:
        >>> build_module({})
        Traceback (most recent call last):
        ValueError: the checkpoint does not contain how to build its student, because its ...
    """
    from lightning.pytorch.cli import instantiate_module

    if "_class_path" not in hyper_parameters:
        raise ValueError(
            "the checkpoint does not contain how to build its student, because its module was"
            " created in Python and not from a config; create the module again, load the weights,"
            " and call kdlight.export.export_student(module.student, directory)"
        )
    config = merge_changes(hyper_parameters, rebuilding or {})
    config = {name: value for name, value in config.items() if name != "_instantiator"}
    if str(config["_class_path"]).startswith("kdlight."):
        config = {name: value for name, value in config.items() if name not in ONLY_IN_A_FIT}
    named = check_trusted(config, trust=trust, flag="--trust (in Python: trust=True)")
    if named:
        rank_zero_info(f"the checkpoint is trusted, which runs {'; '.join(named)}")
    if "teacher" in config and str(config["_class_path"]).startswith("kdlight."):
        recipe = locate(config["student"].get("class_path", ""))
        if not (isinstance(recipe, type) and issubclass(recipe, StudentRecipe)):
            config["teacher"] = None
    return instantiate_module(DistillationBase, config)
