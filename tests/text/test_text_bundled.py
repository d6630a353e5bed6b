"""The bundled sample: what is in it, that it does not leak, that it may be passed on."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from moeaudit.errors import InputError
from moeaudit.text import corpus
from moeaudit.text.bundled import BUNDLED_SPLITS, FOLDER
from moeaudit.text.making.sample import SHIFT_DOMAINS, shingles
from moeaudit.text.making.slices import SLICES, TRAINING_DOMAINS
from moeaudit.text.making.split import SPLITS, split_of

LANGUAGES = {piece.domain: piece.language for piece in SLICES}


@pytest.mark.parametrize("split", SPLITS)
def test_training_domains_in_every_split(split):
    found = corpus("bundled", split=split)
    assert set(found.domains) == set(TRAINING_DOMAINS)
    for domain in found.domains:
        assert sum(document.domain == domain for document in found) >= 60


def test_shift_holds_domains_and_a_language_never_trained_on():
    found = corpus(split="shift")
    assert set(found.domains) == set(SHIFT_DOMAINS)
    assert not set(SHIFT_DOMAINS) & set(TRAINING_DOMAINS)
    assert len(SHIFT_DOMAINS) >= 2
    seen = {document.language for document in corpus(split="train")}
    assert {document.language for document in found} - seen == {"es"}


def test_no_document_is_in_two_splits():
    ids = [document.id for split in BUNDLED_SPLITS for document in corpus(split=split)]
    assert len(ids) == len(set(ids))


def test_whole_units_agree_with_the_split_of_the_full_corpus():
    # Articles are kept whole, so their split can be checked from the text alone.
    for split in SPLITS:
        for document in corpus(split=split, domains=["encyclopedia", "encyclopedia_fr"]):
            assert split_of(document.text) == split


def test_speeches_modules_and_chapters_stay_in_one_split():
    for domain in ("speeches", "code", "scripture", "medical", "recipes"):
        sources = [{d.source for d in corpus(split=s, domains=[domain])} for s in SPLITS]
        assert not sources[0] & sources[1] | sources[0] & sources[2] | sources[1] & sources[2]


def test_hardly_any_test_text_occurs_in_train():
    for domain in TRAINING_DOMAINS:
        train = set().union(*(shingles(d.text) for d in corpus(split="train", domains=[domain])))
        for document in corpus(split="test", domains=[domain]):
            grams = shingles(document.text)
            assert len(grams & train) <= 0.8 * len(grams)


def test_sizes():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4_000_000
    for split in BUNDLED_SPLITS:
        assert all(len(document.text) >= 200 for document in corpus(split=split))


def test_every_domain_is_credited_with_a_licence_that_is_there():
    credits = (FOLDER / "ATTRIBUTION.md").read_text("utf-8")
    for domain in (*TRAINING_DOMAINS, *SHIFT_DOMAINS):
        (row,) = re.findall(rf"^\| `{domain}` \|.*$", credits, re.MULTILINE)
        texts = re.findall(r"\((LICENSES/[^)]+)\)", row)
        assert texts
        for name in texts:
            assert (FOLDER / name).stat().st_size > 500


def test_every_document_names_its_source_and_language():
    for split in BUNDLED_SPLITS:
        for document in corpus(split=split):
            assert document.source
            assert document.language == LANGUAGES[document.domain]


def test_only_texts_that_may_be_passed_on():
    for split in BUNDLED_SPLITS:
        for document in corpus(split=split):
            source = document.source or ""
            assert "Andersen" not in source
            if document.domain == "speeches":
                assert int(source[5:9]) <= 1945 and "Hoover" not in source
            if document.domain == "licences":
                assert ", SPDX " in source


def test_names_that_do_not_exist_are_answered_with_those_that_do():
    with pytest.raises(InputError, match="train, calibration, test, shift"):
        corpus(split="validation")
    with pytest.raises(InputError, match="'bundled' or a folder"):
        corpus("wikipedia")
    with pytest.raises(InputError, match="No such domain.*poetry.*fiction"):
        corpus(domains=["poetry"])
    with pytest.raises(InputError, match=r"\['code'\]"):
        corpus(domains="code")
    with pytest.raises(InputError, match="none given"):
        corpus(domains=[])


def test_corpora_do_not_share_their_notes():
    corpus().notes.append("mine")
    assert corpus().notes == []
    assert corpus(domains=["code"]).domains == ["code"]


def test_importing_the_room_is_light():
    heavy = "numpy", "torch", "transformers", "pandas", "tokenizers", "datasets"
    check = (
        f"import sys, moeaudit.text as t; assert not set({heavy}) & set(sys.modules); t.tokenize"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
