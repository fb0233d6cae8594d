"""What a number depends on besides the code: versions, device, seed. No path and no host name leaves this module."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from typing import TYPE_CHECKING

from robustlib import __version__
from robustlib.data.folders import repository_root

if TYPE_CHECKING:
    import torch


def pick_device() -> torch.device:
    """CUDA where PyTorch can use it, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def environment() -> dict[str, str | int | None]:
    """Versions (None: not installed), device and commit, for records and for the first lines of a notebook.

    `device` is "cpu" or "cuda", `cpu_count` those this process may use, `commit` None outside a git checkout and ends
    in "-dirty" with changes.
    """
    import torch

    device = pick_device()
    on_cuda = device.type == "cuda"
    packages = ("torch", "torchvision", "numpy", "transformers")
    return {
        "robustlib": __version__,
        "python": platform.python_version(),
        **{name: installed_version(name) for name in packages},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if on_cuda else f"{platform.machine()} CPU",
        "float32": measured_float32(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "commit": git_commit(),
    }


def measured_float32() -> str:
    """How float32 is multiplied where something is measured: "ieee", or "tf32" with 10 bits of mantissa."""
    import torch

    from robustlib.models.forward import evaluating

    with evaluating(torch.nn.Identity()):
        modes = {torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision}
    return "ieee" if modes == {"ieee"} else "tf32"


def describe_environment(profile: str, seed: int) -> str:
    """The line that opens every notebook: profile, seed, versions, device."""
    facts = environment()
    versions = ", ".join(f"{name} {facts[name]}" for name in ("robustlib", "python", "torch", "numpy"))
    device = f"{facts['device_name']} ({facts['cpu_count']} CPU cores), float32 mode {facts['float32']}"
    commit = f", commit {facts['commit']}" if facts["commit"] else ""
    return f"profile {profile}, seed {seed}; {versions}{commit}; {device}"


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, without importing it; None where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def git_commit() -> str | None:
    """Commit of the checkout in use, None where it is no git checkout (or git is missing)."""
    # A checkout copied without .git into some other repository must not report that one's commit.
    prefix = _git("rev-parse", "--show-prefix")
    return _git("describe", "--always", "--dirty", "--exclude=*", "--abbrev=12") if prefix == "" else None


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(repository_root()), *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()
