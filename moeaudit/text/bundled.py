"""The text sample that comes with the package, and corpora rebuilt with `moeaudit.text.build`."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from moeaudit.errors import InputError, one_of

from .document import Corpus, Document
from .making.split import SPLITS

FOLDER = Path(__file__).with_name("data") / "bundled"
BUNDLED_SPLITS = (*SPLITS, "shift")


def corpus(
    name: str | Path = "bundled", split: str = "test", domains: Sequence[str] | None = None
) -> Corpus:
    """The documents of one split of a corpus; it needs no network.

    `name`: "bundled", or the folder of a corpus made by `python -m moeaudit.text.making.build`.
    `split`: "train", "calibration" and "test" hold the eight domains the bundled models were
    trained on; "shift" (bundled only) holds domains and a language they never saw.
    `domains`: only these domains. Raises InputError for a name, split or domain that does not
    exist, listing those that do.
    """
    if name == "bundled":
        one_of(split, BUNDLED_SPLITS, "split of the bundled corpus")
        documents = [document for part, document in _bundled() if part == split]
    else:
        documents = _rebuilt(Path(name), split, domains)
    present = list(dict.fromkeys(document.domain for document in documents))
    if domains is not None:
        _known(domains, present, f"split {split!r}")
        documents = [document for document in documents if document.domain in domains]
    return Corpus(documents)


def _rebuilt(folder: Path, split: str, domains: Sequence[str] | None) -> list[Document]:
    from .making.full import available, documents_of  # reads with numpy, not needed for the sample

    if not (folder / "corpus.json").is_file():
        raise InputError(
            f"There is no corpus {str(folder)!r}. It is either 'bundled' or a folder made by "
            f"`python -m moeaudit.text.making.build --out FOLDER`. For texts of your own use "
            f"moeaudit.documents(...)."
        )
    present = available(folder)
    if domains is not None:
        _known(domains, present, str(folder))
    wanted = present if domains is None else list(domains)
    return [document for domain in wanted for document in documents_of(folder, domain, split)]


def _known(domains: Sequence[str], present: Sequence[str], where: str) -> None:
    if isinstance(domains, str):
        raise InputError(f"domains is a list of names: write [{domains!r}], not {domains!r}.")
    unknown = [domain for domain in domains if domain not in present]
    if unknown or not domains:
        raise InputError(
            f"No such domain in {where}: {', '.join(unknown) or '(none given)'}. There are: "
            f"{', '.join(present)}."
        )


@cache
def _bundled() -> tuple[tuple[str, Document], ...]:
    """(split, document) of every bundled text, by domain in alphabetical order."""
    rows: list[tuple[str, Document]] = []
    for path in sorted(FOLDER.glob("*.jsonl.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                rows.append((record.pop("split"), Document(**record)))
    if not rows:
        raise InputError(
            f"The bundled text is missing from {FOLDER}: this copy of moeaudit is incomplete. "
            f"Install it again."
        )
    return tuple(rows)
