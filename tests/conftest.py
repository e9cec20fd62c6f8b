"""What every test shares: no network, one thread, seeded float64 logits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

# Set before torch and transformers are imported, and inherited by the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"  # Lightning calls what jsonargparse renamed

import pytest
import torch
from torch import Tensor

from tests.support.vllm_server import vllm_server as vllm_server

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Undo what a test sets, such as the port of a process group, which the next one would use.

    The same is done with where modules are found: a folder that a test made is none of the next.
    """
    before, path = dict(os.environ), list(sys.path)
    yield
    sys.path[:] = path  # a command adds the folder it runs in
    for name in os.environ.keys() | before.keys():
        if name == "PYTEST_CURRENT_TEST":  # pytest's own
            continue
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]


@pytest.fixture
def generator() -> torch.Generator:
    """A generator of one's own, so that a test's numbers do not hang on what ran before."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def student(generator: torch.Generator) -> Tensor:
    """Float64 logits with a graph, (B, T, V) = (2, 5, 7)."""
    return torch.randn(2, 5, 7, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.fixture
def teacher(student: Tensor, generator: torch.Generator) -> Tensor:
    """Float64 logits of the same shape without a graph, drawn after the student's."""
    return torch.randn(student.shape, dtype=torch.float64, generator=generator)
