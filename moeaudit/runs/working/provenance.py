"""Where numbers came from: versions, code, model, machine. Recorded once per session of a run."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "moeaudit",
    "torch",
    "transformers",
    "transformer-lens",
    "nnsight",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "statsmodels",
    "plotly",
    "tokenizers",
    "safetensors",
)


def now() -> str:
    """The time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def session() -> dict[str, Any]:
    """What is true of this process: versions, code, machine, torch settings."""
    import torch

    return {
        "started": now(),
        "packages": package_versions(),
        "code": code_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
    }


def package_versions() -> dict[str, str | None]:
    """Installed versions; None where a package is not installed under that name."""
    from moeaudit.version import __version__

    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    versions["moeaudit"] = __version__
    return versions


def code_revision(package: Path | None = None) -> dict[str, Any]:
    """Git commit and dirty flag of the checkout the package runs from, or why there is none."""
    package = package or Path(__file__).resolve().parents[2]
    root = package.parent
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None, "reason": "installed, not a git checkout"}
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--", package.name))
    except (OSError, subprocess.SubprocessError) as error:
        return {"commit": None, "dirty": None, "reason": f"git did not answer ({error})"}
    return {"commit": commit, "dirty": dirty, "reason": None}


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
