"""``kdlight rank --config configs/rank/digits.yaml``: rank students before they are trained."""

from __future__ import annotations

import sys
from typing import Any

from kdlight.cli.errors import TRACEBACK, TRACEBACK_HELP, one_line_errors

DESCRIPTION = (
    "Rank students by how similar their features are to the teacher's, before any of them is"
    " trained. Nothing is trained, and no file is written."
)


def rank(args: list[str]) -> None:
    """Rank the students of a config and print a table; an error is one line, and the code 2."""
    parser = _parser()
    if {"-h", "--help"} & set(args):
        print(parser.format_help().rstrip())
        sys.exit(0)
    config = parser.parse_args(args)
    with one_line_errors():
        print(_rank(parser, config))


def _parser() -> Any:
    from lightning.pytorch import LightningDataModule
    from torch import nn

    # imported so that jsonargparse finds classes by their name
    from kdlight import data, models  # noqa: F401
    from kdlight.cli.config_parser import Parser
    from kdlight.models import StudentRecipe

    network = nn.Module | StudentRecipe
    parser = Parser(prog="kdlight rank", description=DESCRIPTION)
    parser.add_argument("-c", "--config", action="config", help="A config; more override it.")
    parser.add_argument("--teacher", type=nn.Module, required=True, help="The teacher.")
    parser.add_argument(
        "--students",
        type=dict[str, network],
        required=True,
        help="Networks, or recipes that build them from the teacher, by name.",
    )
    parser.add_argument(
        "--data",
        type=LightningDataModule,
        required=True,
        help="Data; the first training batch is used.",
    )
    parser.add_argument("--repeats", type=int, default=5, help="Initializations of each student.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the first initialization.")
    parser.add_argument(
        "--teacher_path", type=str | None, help="Path of the module whose output is compared."
    )
    parser.add_argument(
        "--student_paths", type=dict[str, str] | None, help="The same, by name of the student."
    )
    parser.add_argument(
        "--device",
        type=str | None,
        help="Such as cuda:0; by default an accelerator if there is one.",
    )
    parser.add_argument(TRACEBACK, action="store_true", help=TRACEBACK_HELP)
    return parser


def _rank(parser: Any, config: Any) -> Any:
    from lightning.pytorch.utilities.seed import isolate_rng
    from torch import manual_seed

    from kdlight.cli.devices import find_device
    from kdlight.ranking import rank_students

    students = config.pop("students") or {}
    with isolate_rng():
        manual_seed(config.seed)
        parts = parser.instantiate_classes(config)
        parts.data.prepare_data()
        parts.data.setup("fit")
        batch = next(iter(parts.data.train_dataloader()))
        return rank_students(
            parts.teacher.to(find_device(config.device)),
            {name: _candidate(given) for name, given in students.items()},
            batch,
            repeats=config.repeats,
            seed=config.seed,
            teacher_path=config.teacher_path,
            student_paths=config.student_paths,
        )


def _candidate(given: Any) -> Any:
    """Return a recipe, or a factory that creates a network and all of its parts anew."""
    from jsonargparse import ArgumentParser, Namespace
    from torch import nn

    from kdlight.models import StudentRecipe

    parser = ArgumentParser()
    parser.add_argument("--student", type=nn.Module | StudentRecipe)

    def create() -> Any:
        parts: Any = parser.instantiate_classes(Namespace(student=given.clone()))
        return parts.student

    first = create()
    return first if isinstance(first, StudentRecipe) else create
