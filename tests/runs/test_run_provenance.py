"""Where numbers come from: versions, and the commit of the package's own checkout."""

from __future__ import annotations

import subprocess

from moeaudit import __version__
from moeaudit.runs.working.provenance import code_revision, package_versions


def git(folder, *arguments):
    subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        check=True,
        capture_output=True,
    )


def test_a_checkout_gives_its_commit_and_whether_it_was_changed(tmp_path):
    package = tmp_path / "moeaudit"
    package.mkdir()
    (package / "a.py").write_text("one = 1\n")
    found = code_revision(package)
    assert found["commit"] is None
    assert "not a git checkout" in found["reason"]
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = code_revision(package)
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "notes.txt").write_text("beside the package")
    assert code_revision(package)["dirty"] is False
    (package / "a.py").write_text("one = 2\n")
    assert code_revision(package)["dirty"] is True


def test_versions_of_what_makes_the_numbers():
    versions = package_versions()
    assert versions["moeaudit"] == __version__
    assert all(versions[name] for name in ("torch", "transformers", "numpy", "pandas", "scipy"))
