"""What an audit reads: two disjoint, balanced sets that do not depend on the order of documents."""

from __future__ import annotations

import numpy as np
import pytest
from made import tiny_run

from moeaudit.errors import InputError
from moeaudit.text import Corpus, Document, tokenize
from moeaudit.text.choice import LEAST, balanced, beginnings, gather


def corpus(**sizes: int) -> Corpus:
    return Corpus([Document(f"{d} number {i}", d) for d, n in sizes.items() for i in range(n)])


def test_domains_take_turns_and_small_ones_give_their_share_away():
    docs = corpus(law=20, code=2, news=20)
    chosen = [docs[i].domain for i in balanced(docs, 12, seed=0)]
    assert {d: chosen.count(d) for d in docs.domains} == {"law": 5, "code": 2, "news": 5}


def test_the_choice_depends_on_texts_and_seed_only():
    docs = corpus(law=20, news=20)
    backwards = Corpus(reversed(list(docs)))
    one = {docs[i].text for i in balanced(docs, 10, seed=0)}
    two = {backwards[i].text for i in balanced(backwards, 10, seed=0)}
    other = {docs[i].text for i in balanced(docs, 10, seed=1)}
    assert one == two
    assert one != other


def test_metrics_and_effects_share_no_document(tiny_model):
    texts = [*tiny_run.TEXTS, tiny_run.TEXTS[0]]  # one repeated
    found = gather(tiny_model, texts, documents=6, tokens=0, max_length=64, seed=0)
    ids = {role: set(rows["id"]) for role, rows in found.documents.groupby("role")}
    assert not ids["metrics"] & ids["effects"]
    assert len(ids["effects"]) == 6
    assert len(ids["metrics"]) == 12
    assert any("repeated" in note for note in found.notes)


def test_bundled_sets_come_from_their_own_splits(tiny_model):
    found = gather(tiny_model, None, documents=8, tokens=16, max_length=64, seed=0)
    effects = found.documents[found.documents["role"] == "effects"]
    assert effects["domain"].nunique() == 8
    assert found.source == "bundled"
    assert (effects["tokens"] == 16).all()


def test_token_arrays_are_split_the_same_way(tiny_model):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(1, 2000, 10) for _ in range(10)]
    found = gather(tiny_model, arrays, documents=4, tokens=0, max_length=64, seed=0)
    metric = {chunk.document for chunk in found.metric.chunks}
    effect = {chunk.document for chunk in found.effect.chunks}
    assert len(effect) == 4
    assert len(metric) == 6
    assert not metric & effect
    assert found.metric_hash != found.effect_hash


def test_too_few_documents_are_refused_with_the_arithmetic(tiny_model):
    with pytest.raises(InputError, match="has 7 distinct document.* at least 8"):
        gather(tiny_model, tiny_run.TEXTS[:7], documents=None, tokens=0, max_length=64, seed=0)
    with pytest.raises(InputError, match="documents = 3 is too few"):
        gather(tiny_model, tiny_run.TEXTS, documents=3, tokens=0, max_length=64, seed=0)
    for tokens in (1, -5):
        with pytest.raises(InputError, match="cannot be audited"):
            gather(tiny_model, tiny_run.TEXTS, documents=4, tokens=tokens, max_length=64, seed=0)
    empty = ["", *tiny_run.TEXTS[:4], " "]
    with pytest.raises(InputError):
        gather(tiny_model, empty, documents=4, tokens=0, max_length=64, seed=0)


def test_beginnings_keeps_the_first_tokens_and_counts_the_rest():
    ids = [list(range(10)), list(range(5)), list(range(100, 117))]
    whole = tokenize(ids, max_length=8)
    read, notes = beginnings(whole, 10)
    kept = {d: [] for d in range(3)}
    for chunk in read.chunks:
        kept[chunk.document] += chunk.ids.tolist()
    assert kept == {0: ids[0], 1: ids[1], 2: ids[2][:10]}
    assert "1 of 3 documents are longer, and 7 of 32 tokens were left out" in notes[-1]
    assert beginnings(whole, 0)[0] is whole


def test_a_last_piece_of_one_token_is_left_out_and_counted():
    read, notes = beginnings(tokenize([list(range(20))], max_length=8), 9)
    assert [len(chunk.ids) for chunk in read.chunks] == [8]
    assert "12 of 20 tokens" in notes[-1]


def test_least_is_what_the_statistics_need():
    assert LEAST == 4
