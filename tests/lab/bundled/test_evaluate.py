"""From a trained checkpoint to a model folder and its card."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from moeaudit.errors import RunError
from moeaudit.lab.bundled import train
from moeaudit.lab.bundled.card import page
from moeaudit.lab.bundled.card.card import standing
from moeaudit.lab.bundled.card.evaluate import draw, idle_parameters, main, read
from moeaudit.lab.bundled.export import export
from moeaudit.text.document import Document
from moeaudit.text.making.full import TokenizedText


def tokenized(ids: np.ndarray, n_bytes: int = 10) -> TokenizedText:
    return TokenizedText(ids.astype(np.uint16), n_bytes, Document("not read"))


@pytest.fixture
def folder(toy, corpus_folder, tmp_path):
    """A toy model, trained for a moment and exported."""
    run, out = tmp_path / "run", tmp_path / toy
    arguments = [toy, "--corpus", str(corpus_folder), "--out", str(run), "--steps", "6"]
    assert train.main([*arguments, "--rows-per-step", "8", "--short", "32", "--long", "32"]) == 0
    made = export(run, out)
    assert made["tokens"] == 6 * 8 * 32
    return out


def test_folder_loads_as_any_model_does(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    weight = model.lm_head.weight
    assert torch.equal(weight, weight.half().float())  # stored in half precision
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer("text").input_ids[0] == model.config.bos_token_id


def test_every_token_is_predicted_once(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    random = np.random.default_rng(0)
    texts = {"a": [tokenized(random.integers(2048, size=n)) for n in (9, 20)]}
    whole = read(model, texts, context=512)
    assert whole.tokens.tolist() == [8, 19]
    ids = torch.tensor(texts["a"][1].ids.astype(np.int64))[None]
    expected = model(input_ids=ids, labels=ids).loss.item() * 19
    assert whole.nll[1] == pytest.approx(expected, rel=1e-5)
    assert whole.bits_per_byte("a") == pytest.approx(whole.nll.sum() / 20 / math.log(2))
    for layer, slots in whole.slots.items():
        assert slots.sum(1).tolist() == [8 * 4, 19 * 4]
        assert whole.top1[layer].sum(1).tolist() == [8, 19]
    cut = read(model, texts, context=8)
    assert cut.tokens.tolist() == [8, 19]
    assert cut.nll[0] == pytest.approx(whole.nll[0], rel=1e-6)
    assert cut.nll[1] != pytest.approx(whole.nll[1], rel=1e-6)


def test_command_writes_figures_and_card(folder, corpus_folder):
    assert main([str(folder), "--corpus", str(corpus_folder), "--documents", "2"]) == 0
    figures = json.loads((folder / "figures.json").read_text())
    by_domain = {row["domain"]: row for row in figures["language"]}
    assert len(by_domain) == 9
    assert not by_domain["elsewhere"]["trained"]
    assert by_domain["code"]["trigram_domain"] < by_domain["code"]["unigram"]
    assert {row["documents"] for row in by_domain.values()} == {2}
    assert [row["layer"] for row in figures["routing"]] == [0, 1]
    model = AutoModelForCausalLM.from_pretrained(folder)
    experts = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    assert idle_parameters(model) == experts * 28 // 32
    card = (folder / "README.md").read_text()
    assert f"{by_domain['code']['bits_per_byte']:.3f}" in card
    assert "no evidence about large models" in card
    assert "CC BY-SA" in card
    out = folder.parent / "models.md"
    assert page.main([str(folder), "--out", str(out)]) == 0
    bits, trigram = (by_domain["code"][k] for k in ("bits_per_byte", "trigram"))
    assert f"| code | **{bits:.3f}** / {trigram:.3f} |" in out.read_text()
    assert (folder / "README.md").read_text() == card


def test_card_says_where_the_model_loses():
    rows = [
        {"domain": "a", "bits_per_byte": 1.0, "trigram": 1.5, "trigram_domain": 0.9},
        {"domain": "b", "bits_per_byte": 1.0, "trigram": 1.2, "trigram_domain": 1.1},
    ]
    assert standing(rows) == (
        "The model is below the trigram on 2 of 2 domains. "
        "The model is below its own trigram on 1 of 2 domains (not on a)."
    )


def test_draw_is_seeded():
    docs = [tokenized(np.array([i])) for i in range(30)]
    first = [int(d.ids[0]) for d in draw(docs, 5, 0)]
    assert first == [int(d.ids[0]) for d in draw(docs, 5, 0)] == sorted(first)
    assert first != [int(d.ids[0]) for d in draw(docs, 5, 1)]
    assert len(draw(docs, 99, 0)) == 30


def test_nothing_to_export(tmp_path):
    with pytest.raises(RunError, match="no checkpoint"):
        export(tmp_path, tmp_path / "out")
