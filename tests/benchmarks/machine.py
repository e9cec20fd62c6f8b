"""On what a table of figures was measured: processor, threads, versions, and whether it was quiet.

AVX2, AVX-512 and AMX differ by factors in the products of bfloat16, so figures of machines that
differ in them cannot be compared.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PEERS = ("trl", "liger-kernel", "torchtune", "triton", "transformers", "lightning")


def processor() -> str:
    """The name of the processor, and those of its instructions that matter here."""
    found: dict[str, str] = {}
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = {key.strip(): text.strip() for key, _, text in (x.partition(":") for x in lines)}
    name = found.get("model name") or platform.processor() or platform.machine()
    used = torch.backends.cpu.get_cpu_capability()  # ATEN_CPU_CAPABILITY=avx2 lowers it
    flags = found.get("flags", "").split() if used.startswith("AVX512") else []
    more = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    return ", ".join([name, used, *more])


def header(device: str = "cpu") -> str:
    """Two lines to print above a table."""
    chip = processor() if device == "cpu" else torch.cuda.get_device_name(device)
    busy = "" if device != "cpu" else f", load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"
    versions = [f"{name} {_version(name)}" for name in PEERS]
    return (
        f"{chip}; torch {torch.__version__}, {torch.get_num_threads()} threads{busy}\n"
        f"{'; '.join(versions)}"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
