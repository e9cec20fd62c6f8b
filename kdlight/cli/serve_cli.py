"""The command line of a fit, of which the teacher is served."""

from __future__ import annotations

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from torch import nn

from kdlight.cli.cache_cli import CacheCLI
from kdlight.cli.serve_options import add_options
from kdlight.modules.base import DistillationBase
from kdlight.modules.checkpoint_metadata import describe_config
from kdlight.serve import Limits, ServedTeacher, TeacherServer
from kdlight.serve.access import find_token
from kdlight.teachers import Teacher


class ServeCLI(CacheCLI):
    """Reads the config of a fit, and uses its teacher, tokenizer and device.

    The student is not built where the teacher is an argument of the module. A module that makes its
    teacher by itself is created as in a fit.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the server."""
        add_options(parser)

    def before_instantiate_classes(self) -> None:
        """Check the options, before a teacher is loaded."""
        super().before_instantiate_classes()
        with self._one_line_errors():
            self._limits()
            find_token(self.config["host"], self.config["token_variable"])

    def instantiate_classes(self) -> None:
        """Create the teacher, the data and the Trainer; an error of a constructor is one line."""
        with self._one_line_errors():
            arguments = self.config["model"].get("init_args") or Namespace()
            given = arguments.get("teacher")
            self.teacher_name = None
            if "teacher" in arguments and isinstance(given, (Namespace, type(None))):
                if given is not None:
                    self.teacher_name = describe_config(given.as_dict())
                alone = f"{TeacherAlone.__module__}.{TeacherAlone.__qualname__}"
                own = Namespace(teacher=given)
                self.config["model"] = Namespace(class_path=alone, init_args=own)
            self.config_init = self.parser.instantiate_classes(self.config)
            self.teacher = getattr(self.config_init["model"], "teacher", None)
            self.datamodule = self.config_init["data"]
            self.trainer = self.instantiate_trainer()

    def serve(self) -> None:
        """Serve until the process is told to stop."""
        with self._one_line_errors():
            options = self.config
            served = ServedTeacher(
                self.teacher,
                name=self.teacher_name,
                tokenizer=getattr(self.datamodule, "tokenizer", None),
                states=options["states"],
                device=self.trainer.strategy.root_device,
                precision=self.trainer.precision_plugin.forward_context,
            )
            server = TeacherServer(
                served,
                limits=self._limits(),
                host=options["host"],
                port=options["port"],
                token_variable=options["token_variable"],
            )
            server.run(lambda url: print(f"kdlight serves {served.name} at {url}", flush=True))

    def _limits(self) -> Limits:
        return Limits(*(self.config[name] for name in ("k", "max_tokens", "queue")))


class TeacherAlone(DistillationBase):
    """A module that has a teacher and nothing else, in place of that of a config.

    Args:
        teacher: the teacher, or None.

    Example:
        >>> TeacherAlone(nn.Linear(2, 3)).teacher
        Linear(in_features=2, out_features=3, bias=True)
    """

    def __init__(self, teacher: nn.Module | Teacher | None = None) -> None:
        super().__init__()
        self.teacher = teacher
