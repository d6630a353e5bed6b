"""The full corpus as tokens, the shared vocabulary, and the choice of the bundled sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made.tiny_wheels import prose, wheel
from tokenizers import Tokenizer

from moeaudit.errors import InputError
from moeaudit.text import Document, corpus
from moeaudit.text.making import build, sample
from moeaudit.text.making import tokenizer as vocabulary
from moeaudit.text.making.full import document_tokens, documents_of, training_tokens
from moeaudit.text.making.slices import SLICES, TRAINING_DOMAINS
from moeaudit.text.making.slices.unit import Slice, Unit

SHIPPED = Path(build.__file__).parents[2] / "models" / "bundled" / "tokenizer"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A full corpus in miniature: every domain, 30 units of two documents each."""
    root = tmp_path_factory.mktemp("full")
    names = {piece.domain: piece for piece in SLICES}
    slices = []
    pins = []
    for domain, piece in names.items():
        package = f"wheel-{domain.replace('_', '-')}"

        def read(file, domain=domain):
            for name in file.namelist():
                text = file.read(name).decode()
                yield Unit(f"{domain}/{name}", (text[:1000], text[1000:]))

        path = root / f"{package.replace('-', '_')}-1-py3-none-any.whl"
        wheel({f"{n}": prose(f"{domain} words {n * 7919}", 2000) for n in range(30)}, path)
        digest = build.hashlib.sha256(path.read_bytes()).hexdigest()
        pins.append(f"{package}==1 --hash=sha256:{digest}\n")
        slices.append(Slice(domain, piece.language, package, "none", "file", read))
    lock = root / "corpus.lock"
    lock.write_text("".join(pins), "utf-8")
    build.build(root, root / "corpus", slices, lock)
    return root / "corpus"


def test_tokens_are_the_documents_each_led_by_the_boundary(tiny):
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    parts = document_tokens(tiny, tokenizer, "train")
    whole = training_tokens(tiny, tokenizer, "train")
    assert set(parts) == set(whole) == set(TRAINING_DOMAINS)
    for domain, texts in parts.items():
        assert whole[domain].dtype == np.uint16
        assert whole[domain].tolist() == np.concatenate([t.ids for t in texts]).tolist()
        assert (whole[domain] == 0).sum() == len(texts)
        for text, document in zip(texts, documents_of(tiny, domain, "train")):
            assert text.ids[0] == 0
            assert tokenizer.decode(text.ids[1:].tolist()) == document.text
            assert text.n_bytes == len(document.text.encode("utf-8"))


def test_a_limit_takes_a_fixed_sample(tiny):
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    some = document_tokens(tiny, tokenizer, "train", ["fiction"], limit=5)["fiction"]
    every = sorted(
        text.document.id for text in document_tokens(tiny, tokenizer, "train")["fiction"]
    )
    assert [text.document.id for text in some] == every[:5]


def test_unknown_domain_and_split(tiny):
    with pytest.raises(InputError, match="no domain 'poetry'; it holds: apidocs"):
        list(documents_of(tiny, "poetry", "train"))
    with pytest.raises(InputError, match="split 'dev'.*train"):
        list(documents_of(tiny, "code", "dev"))


def test_a_rebuilt_corpus_is_read_by_its_folder(tiny):
    found = corpus(tiny, split="test")
    assert set(found.domains) <= {piece.domain for piece in SLICES}
    assert {d.id for d in found} == {
        d.id for piece in SLICES for d in documents_of(tiny, piece.domain, "test")
    }
    with pytest.raises(InputError, match="poetry"):
        corpus(tiny, domains=["poetry"])


def test_training_the_vocabulary_is_deterministic(tiny):
    texts = vocabulary.sample(tiny, 3000)
    first, second = (vocabulary.train(texts, 300).to_str() for _ in range(2))
    assert first == second
    tokenizer = vocabulary.train(texts, 300)
    assert tokenizer.get_vocab_size() == 300
    assert tokenizer.token_to_id(vocabulary.BOUNDARY) == 0


def test_the_command_writes_the_folder_transformers_reads(tiny, tmp_path, capsys):
    from transformers import PreTrainedTokenizerFast

    assert vocabulary.main(["--corpus", str(tiny), "--out", str(tmp_path)]) == 0
    assert "tokens from" in capsys.readouterr().out
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert loaded.bos_token_id == loaded.eos_token_id == loaded.pad_token_id == 0
    assert vocabulary.main(["--corpus", str(tmp_path / "no"), "--out", str(tmp_path)]) == 2
    assert "text.making.build" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "Hello  world 2026",
        "naïve Ærø 漢字 🙂\u00a0",
        "\tdef f(x):\n\n        return x\r\n",
        "\x00\x01",
    ],
)
def test_the_shipped_vocabulary_loses_nothing(text):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(SHIPPED)
    assert len(tokenizer) == 2048
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == 0
    assert tokenizer.decode(ids[1:]) == text


def test_digits_stand_alone():
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    assert all(len(piece) == 1 for piece in tokenizer.encode("31415926").tokens[1:])


def test_the_sample_prefers_long_texts_spreads_over_sources_and_avoids_repeats():
    def document(name, source, length):
        return Document(prose(name, length), source=source)

    long = [document(f"{s} {n}", s, 1200) for s in ("a", "b") for n in range(5)]
    short = [document(f"short {n}", "c", 300 + 40 * n) for n in range(4)]
    used: set = set()
    chosen = sample.choose([*long, *short], 12, used)
    assert {d.source for d in chosen[:2]} == {"a", "b"}
    assert sorted(d.source or "" for d in chosen[:10]) == ["a"] * 5 + ["b"] * 5
    assert [d.text for d in chosen[10:]] == [short[3].text, short[2].text]
    again = Document(long[0].text + " Once more.", source="d")
    assert sample.choose([again], 5, used) == []


def test_only_free_texts_are_chosen():
    speeches = ["sotu/1905-Roosevelt-1", "sotu/1930-Hoover-1", "sotu/1946-Truman-1", "other"]
    assert [sample.old_speech(Document("x", source=s)) for s in speeches] == [1, 0, 0, 0]
    licences = ["licensedcode/a (Permissive, SPDX A)", "licensedcode/b (Copyleft, SPDX B)"]
    assert [sample.listed_permissive(Document("x", source=s)) for s in licences] == [1, 0]


def test_the_sample_of_a_corpus(tiny, tmp_path, capsys):
    assert sample.main(["--corpus", str(tiny), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("shift") >= 1
    files = sorted(path.name for path in tmp_path.glob("*.xz"))
    assert files == sorted(f"{d}.jsonl.xz" for d in (*TRAINING_DOMAINS, *sample.SHIFT_DOMAINS))
    lines = sample.lzma.open(tmp_path / "code.jsonl.xz", "rt", encoding="utf-8").readlines()
    record = json.loads(lines[0])
    assert record["split"] == "test"
    assert record["text"] in {d.text for d in documents_of(tiny, "code", "test")}
