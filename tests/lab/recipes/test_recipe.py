"""A recipe: read from TOML, refused by name where it is wrong, hashed by what it asks."""

from __future__ import annotations

import pytest

import moeaudit.lab as lab
from moeaudit.errors import InputError
from moeaudit.lab.recipes.architecture import configuration

WHOLE = """
[model]
family = "qwen2-moe"
hidden = 32
layers = 2
shared_width = 16
[text]
held_out = 3
[train]
steps = 7
matrix_rate = 1
[balance]
scope = "micro"
groups = 4
"""


def test_a_file_is_read_whole(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(WHOLE)
    recipe = lab.Recipe.read(path)
    assert recipe.name == "mine"
    assert (recipe.model.family, recipe.model.layers, recipe.train.steps) == ("qwen2-moe", 2, 7)
    assert recipe.train.matrix_rate == 1.0 and recipe.balance.groups == 4
    assert recipe.train.tokens == 7 * 16 * 128
    again = lab.Recipe.from_dict(recipe.to_dict())
    assert again == recipe and again.hash == recipe.hash


def test_a_path_is_looked_up_beside_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[text]\ndocuments = "texts"\n')
    assert lab.Recipe.read(path).text.documents == str((tmp_path / "texts").resolve())


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[model]\nexpert = 4", r"key of \[model\] 'expert'.*Did you mean experts"),
        ("[modle]", "section of a recipe 'modle'.*Did you mean model"),
        ("[train]\nsteps = 'many'", r"\[train\] steps is 'many'; a whole number"),
        ("[train]\nsteps = true", "a whole number"),
        ("[train]\nsteps = 0", "at least 1"),
        ("[train]\nrouter_rate = -1.0", "above 0"),
        ("[train]\ndecay = 1.5", "a share of the steps"),
        ("[train]\noptimiser = 'muno'", "Did you mean muon"),
        ("[train]\nlength = 512", "must fit"),
        ("[model]\ntop_k = 17", "more experts than"),
        ("[model]\nhidden = 30", "even number a head"),
        ("[model]\nfamily = 'qwen2-moe'", "shared_width is 0"),
        (
            "[model]\nfamily = 'deepseek-v2'\nshared_width = 50",
            "a multiple of width = 48",
        ),
        ("[balance]\nscope = 'glbal'", "Did you mean global"),
        ("[balance]\nshuffled = true", 'only the groups of scope "micro"'),
        ("[balance]\nscope = 'micro'\ngroups = 3", "shared equally among the groups"),
        ("[mechanisms.tieing]", "Did you mean tying"),
        ("mechanisms = 3", "tables"),
        ("[text]\ncorpus = 'a'\ndocuments = 'b'", "Name one"),
        ("model = 3", "a table of keys"),
        ("[train", "cannot be read as a recipe"),
    ],
)
def test_what_is_wrong_is_named(toml, said, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(toml)
    with pytest.raises(InputError, match=said):
        lab.Recipe.read(path)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        lab.Recipe.read(tmp_path / "none.toml")


def test_the_hash_is_of_what_is_asked():
    one = lab.recipe("olmoe")
    assert one.hash == lab.recipe("olmoe", name="other").hash
    assert one.hash != lab.recipe("olmoe", seed=1).hash
    assert one.hash != lab.recipe("olmoe-none").hash
    assert one.changed(train={"steps": 3}, experts=8).model.experts == 8
    with pytest.raises(InputError, match="setting of a recipe 'step'.*Did you mean steps"):
        one.changed(step=3)
    with pytest.raises(InputError, match="arm 'olmo'.*Did you mean olmoe"):
        lab.recipe("olmo")


def test_rate_warms_up_stays_and_falls():
    train = lab.Recipe().changed(steps=100, warmup=10, decay=0.2).train
    assert train.factor(0) == pytest.approx(0.1)
    assert {train.factor(n) for n in range(10, 81)} == {1.0}
    assert (train.factor(90), train.factor(99)) == pytest.approx((0.5, 0.05))


@pytest.mark.parametrize("name", [n for n, arm in lab.ARMS.items() if arm.lacks is None])
def test_every_arm_is_a_configuration(name):
    shape = lab.recipe(name).model
    config = configuration(shape, 2048)
    assert config.hidden_size == shape.hidden and config.num_hidden_layers == shape.layers
    if shape.family != "llama":
        assert (config.num_experts, config.num_experts_per_tok) == (shape.experts, shape.top_k)


def test_an_arm_without_its_mechanism_is_refused(monkeypatch):
    monkeypatch.setitem(lab.MECHANISMS._places, "emo", "moeaudit.lab.nowhere:Emo")
    monkeypatch.setattr(lab.MECHANISMS, "_made", {})
    assert lab.ARMS["olmoe-emo"].lacks == "emo"
    with pytest.raises(InputError, match="no moeaudit.lab.nowhere"):
        lab.recipe("olmoe-emo")
