"""A sample of removals: the rows of the census, fewer of them, and each with its probability."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from made import architectures, tiny_moe

import moeaudit as ma
from moeaudit.causal.walk.wavefront import Wavefront
from moeaudit.errors import InputError, RunError

KEYS = ["document", "position", "layer", "rank"]
LENGTHS = (24, 13, 30)


def texts(vocabulary: int = tiny_moe.VOCABULARY) -> list[torch.Tensor]:
    return [torch.as_tensor(tiny_moe.ids(n, seed=n) % vocabulary) for n in LENGTHS]


def beside(model, operator=None, share=0.3, **options):
    """(census, sample, the census' rows that the sample has)."""
    full = ma.ablate(model, texts(), operator, **options)
    part = ma.ablate(model, texts(), operator, share=share, **options)
    return full, part, pd.DataFrame(part[KEYS]).merge(full, on=KEYS, how="left", validate="1:1")


def near(part, same):
    for name in same.columns:
        if same[name].dtype.kind == "f":
            assert part[name].to_numpy() == pytest.approx(same[name].to_numpy(), abs=1e-5), name
        else:
            assert (part[name].to_numpy() == same[name].to_numpy()).all(), name


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
@pytest.mark.parametrize(
    ("operator", "options"),
    [
        (None, {}),
        (ma.Reroute(), {}),
        (None, {"horizon": 3, "outcomes": ["delta_entropy"]}),
        (None, {"frozen_routing": True}),
    ],
    ids=["zero", "reroute", "horizon", "frozen"],
)
def test_a_sample_has_rows_of_the_census(architecture, operator, options):
    full, part, same = beside(tiny_moe.load(architecture), operator, **options)
    assert 0.2 * len(full) < len(part) < 0.4 * len(full)
    assert list(part.columns) == [*full.columns, "pi"] and (part["pi"] == 0.3).all()
    assert {n: part.dtypes[n] for n in full} == {n: full.dtypes[n] for n in full}
    near(part, same)
    assert (part[KEYS] == part.sort_values(KEYS, ignore_index=True)[KEYS]).all(axis=None)


def test_a_token_comes_with_all_its_experts():
    _, part, _ = beside(tiny_moe.load("olmoe"))
    assert (part.groupby(["document", "position", "layer"]).size() == 3).all()
    drawn = part.groupby(["document", "layer"])["position"].nunique().unstack()
    for document, tokens in enumerate(LENGTHS):
        assert drawn.loc[document].between(int(0.3 * (tokens - 1)), 0.3 * (tokens - 1) + 1).all()


def test_the_share_of_one_is_the_census_bit_for_bit():
    model = tiny_moe.load("olmoe")
    full, one = ma.ablate(model, texts()), ma.ablate(model, texts(), share=1.0, seed=3)
    pd.testing.assert_frame_equal(pd.DataFrame(full), pd.DataFrame(one), check_exact=True)
    assert full.attrs == one.attrs and "share" not in full.question.to_dict()


def test_the_draw_depends_on_nothing_else_of_the_corpus_and_on_no_batching():
    model = tiny_moe.load("qwen2_moe")
    part = ma.ablate(model, texts(), share=0.3)
    back = ma.ablate(model, texts()[::-1], share=0.3)
    back = back.assign(document=2 - back["document"]).sort_values(KEYS, ignore_index=True)
    pd.testing.assert_frame_equal(
        pd.DataFrame(part), pd.DataFrame(back), check_exact=True, check_dtype=False
    )
    most = ma.ablate(model, texts(), share=0.9)
    small = ma.ablate(model, texts(), share=0.9, memory=100_000)  # walked in parts
    assert (small[KEYS] == most[KEYS]).all(axis=None)
    near(small, pd.DataFrame(most))
    other = ma.ablate(model, texts(), share=0.3, seed=1)
    assert not other[KEYS].equals(part[KEYS])
    two = ma.ablate(model, texts(), share=0.3, layers=[1])
    assert (two[KEYS].to_numpy() == part[part["layer"] == 1][KEYS].to_numpy()).all()


def test_the_walk_carries_fewer_rows(monkeypatch):
    carried = []
    through = Wavefront._through

    def counted(self, i, state, layer, args, kwargs, rows, *rest, **more):
        carried.append(rows.shape[0] * rows.shape[1])
        return through(self, i, state, layer, args, kwargs, rows, *rest, **more)

    model = tiny_moe.load("olmoe")
    ma.ablate(model, texts(), share=0.1)  # the engine is found
    monkeypatch.setattr(Wavefront, "_through", counted)
    ma.ablate(model, texts())
    census = sum(carried)
    carried.clear()
    ma.ablate(model, texts(), share=0.1)
    # A census carries 1 + 4 + 7 rows a position through the three layers; a tenth of it 0.1 x (3 + 6), and the row
    # without an edit at .10, .19 and .27 of the positions: 1.46.
    assert census == 12 * sum(n - 1 for n in LENGTHS)
    assert sum(carried) < 0.16 * census


def test_rows_that_are_run_again_and_edited_copies():
    for name, engine in (("flex_olmo", "wavefront"), ("lfm2_moe", "full forwards")):
        model = ma.load(architectures.BY_NAME[name].build())
        docs = texts(architectures.VOCABULARY)
        full, part = ma.ablate(model, docs), ma.ablate(model, docs, share=0.3)
        assert engine in part.engine, part.engine
        near(part, pd.DataFrame(part[KEYS]).merge(full, on=KEYS, how="left"))


def test_a_folder_keeps_the_sample_and_another_share_is_another_question(tmp_path):
    model = tiny_moe.load("olmoe")
    part = ma.ablate(model, texts(), share=0.3, seed=2)
    folder = ma.ablate(model, texts(), share=0.3, seed=2, out=tmp_path / "x")
    assert folder.question == part.question
    assert (folder.question.share, folder.question.seed) == (0.3, 2)
    assert "a sample of 0.3 by seed 2" in str(folder.question)
    pd.testing.assert_frame_equal(pd.DataFrame(folder.read()), pd.DataFrame(part), check_exact=True)
    for other in ({"share": 0.5, "seed": 2}, {"share": 0.3, "seed": 3}, {}):
        with pytest.raises(RunError):
            ma.ablate(model, texts(), out=tmp_path / "x", **other)


def test_a_sample_is_checked_as_a_census_is():
    model = tiny_moe.load("deepseek_v2")
    assert ma.verify(ma.ablate(model, texts(), ma.Reroute(), share=0.3), model, n=4).agrees


def test_a_sample_of_nothing_is_refused():
    with pytest.raises(InputError, match="draws not one removal"):
        ma.ablate(tiny_moe.load("olmoe"), [torch.tensor([1, 2, 3])], share=1e-6)
