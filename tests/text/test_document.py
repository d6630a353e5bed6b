"""Documents and corpora: identity, numbering, sampling, splitting."""

from __future__ import annotations

import pytest

from moeaudit.errors import InputError
from moeaudit.text import Corpus, Document


def make(n: int = 40) -> Corpus:
    return Corpus(Document(f"text {i}", domain="ab"[i % 2]) for i in range(n))


def test_numbering_and_subsets_keep_their_numbers():
    corpus = make()
    assert [d.index for d in corpus] == list(range(40))
    part = corpus.subset([5, 3])
    assert [d.index for d in part] == [5, 3]
    assert [d.index for d in corpus[10:12]] == [10, 11]
    assert [d.index for d in part.subset([1])] == [3]
    assert corpus[-1].index == 39
    assert [d.index for d in Corpus(part)] == [0, 1]


def test_identity_is_the_text_alone():
    a, b = Document("x", domain="a", index=3), Document("x", domain="b")
    assert a.id == b.id
    assert a.id != Document("y").id


def test_hash_sees_text_domain_and_order():
    base = Corpus([Document("a"), Document("b")])
    assert base.hash == Corpus([Document("a"), Document("b", source="elsewhere")]).hash
    different = [
        Corpus([Document("b"), Document("a")]),
        Corpus([Document("a"), Document("c")]),
        Corpus([Document("a"), Document("b", domain="x")]),
        Corpus([Document("a")]),
    ]
    assert base.hash not in {corpus.hash for corpus in different}


def test_domains_in_order_of_appearance():
    assert Corpus([Document("1", "b"), Document("2", "a"), Document("3", "b")]).domains == [
        "b",
        "a",
    ]


def test_sample_is_seeded_ordered_and_without_replacement():
    corpus = make()
    one = corpus.sample(10, seed=1)
    indices = [d.index for d in one]
    assert indices == sorted(set(indices))
    assert indices == [d.index for d in corpus.sample(10, seed=1)]
    assert indices != [d.index for d in corpus.sample(10, seed=2)]


def test_sample_per_domain():
    drawn = make().sample(7, seed=3, per_domain=True)
    assert [sum(d.domain == name for d in drawn) for name in "ab"] == [7, 7]
    alone = Corpus(d for d in make() if d.domain == "a")
    texts = [d.text for d in alone.sample(7, seed=3, per_domain=True)]
    assert texts == [d.text for d in drawn if d.domain == "a"]


@pytest.mark.parametrize("n", [0, 21, 41])
def test_a_smaller_sample_is_never_silent(n):
    with pytest.raises(InputError, match="domain 'a' holds 20"):
        make().sample(n, per_domain=True)


def test_split_is_disjoint_complete_and_stable():
    corpus = make(400)
    first, second = corpus.split(0.3, seed=0)
    assert {d.index for d in first} | {d.index for d in second} == set(range(400))
    assert not {d.id for d in first} & {d.id for d in second}
    assert 80 <= len(first) <= 160  # 120 expected, sd 9
    longer, _ = Corpus([*corpus, Document("one more")]).split(0.3, seed=0)
    assert {d.id for d in first} <= {d.id for d in longer}
    assert {d.id for d in first} != {d.id for d in corpus.split(0.3, seed=1)[0]}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -2.0])
def test_a_split_needs_two_sides(fraction):
    with pytest.raises(InputError, match="between 0 and 1"):
        make().split(fraction)
