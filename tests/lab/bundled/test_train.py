"""Training for real, in miniature: it learns, and it resumes exactly."""

from __future__ import annotations

import json

import pytest
import torch

from moeaudit.errors import InputError, RunError
from moeaudit.lab.bundled import train
from moeaudit.lab.bundled.configs import Settings, architecture
from moeaudit.lab.bundled.training import Training
from moeaudit.lab.training.data import Mixture

SMALL = {"rows_per_step": 8, "short": 16, "long": 32, "warmup_steps": 5}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_loss_falls_below_what_single_tokens_allow(family, patterns):
    settings = Settings(steps=60, decay_steps=20, **SMALL)
    training, mixture = Training(family, 64, settings), Mixture(patterns, 0)
    records = [training.advance(mixture) for _ in range(settings.steps)]
    # Tokens are uniform (ln 64 = 4.16 nats); a token is known from the one before up to direction.
    assert records[0]["nll"] == pytest.approx(4.16, abs=0.15)
    assert records[-1]["nll"] < 1.5
    assert all(1.0 <= r["balance"] + 0.05 < 3.0 for r in records)


def test_resumed_run_equals_the_uninterrupted_one(toy, patterns, tmp_path):
    settings = Settings(steps=20, decay_steps=8, **SMALL)
    facts = {"name": toy, "steps": 20, "decay_steps": 8}
    whole = Training(toy, 64, settings)
    list(train.run(whole, Mixture(patterns, 0), tmp_path, facts))
    for stop in (7, 14):  # in the constant part and in the decay
        out = tmp_path / str(stop)
        out.mkdir()
        first, mixture = Training(toy, 64, settings), Mixture(patterns, 0)
        for _ in range(stop):
            first.advance(mixture)
        train.save(first, out / "checkpoint.pt", facts)
        second = Training(toy, 64, settings)
        second.restore(train.saved(out, facts))
        assert second.step == stop
        list(train.run(second, Mixture(patterns, 0), out, facts))
        for name, p in whole.model.state_dict().items():
            assert torch.equal(p, second.model.state_dict()[name]), name


def test_constant_part_serves_a_longer_run(toy, patterns, tmp_path):
    short = {"name": toy, "steps": 10, "decay_steps": 4}
    long = {"name": toy, "steps": 16, "decay_steps": 4, "late_balance": 0.5}
    training = Training(toy, 64, Settings(steps=10, decay_steps=4, **SMALL))
    list(train.run(training, Mixture(patterns, 0), tmp_path, short))
    longer = Training(toy, 64, Settings(steps=16, decay_steps=4, late_balance=0.5, **SMALL))
    longer.restore(train.saved(tmp_path, long))
    assert longer.step == 6  # where the shorter run began to decay
    direct = Training(toy, 64, Settings(steps=16, decay_steps=4, **SMALL))
    mixture = Mixture(patterns, 0)
    for _ in range(6):
        direct.advance(mixture)
    for name, p in direct.model.state_dict().items():
        assert torch.equal(p, longer.model.state_dict()[name]), name


def test_another_run_in_the_folder_is_refused(toy, patterns, tmp_path):
    facts = {"name": toy, "steps": 4, "decay_steps": 2, "seed": 0}
    training = Training(toy, 64, Settings(steps=4, decay_steps=2, **SMALL))
    list(train.run(training, Mixture(patterns, 0), tmp_path, facts))
    with pytest.raises(RunError, match="seed = 0; this one has 1"):
        train.saved(tmp_path, {**facts, "seed": 1})
    with pytest.raises(RunError, match="past the point"):
        train.saved(tmp_path, {**facts, "steps": 3})
    assert train.saved(tmp_path / "nothing", facts) is None


def test_rate_warms_up_stays_and_decays():
    s = Settings(steps=100, decay_steps=20, warmup_steps=10)
    assert s.rate(0) == pytest.approx(0.1)
    assert {s.rate(n) for n in range(10, 81)} == {1.0}
    assert s.rate(90) == pytest.approx(0.5)
    assert s.rate(99) == pytest.approx(0.05)
    assert (s.length(79), s.length(80)) == (256, 512)
    assert (s.balance_at(79), s.balance_at(80)) == (s.balance, s.late_balance)
    with pytest.raises(InputError, match="must fit"):
        Settings(steps=10, decay_steps=11)
    with pytest.raises(InputError, match="whole rows"):
        Settings(steps=10, decay_steps=1, rows_per_step=3)
    with pytest.raises(InputError, match="tiny-olmoe"):
        architecture("huge-olmoe", 64)


def test_command_trains_pauses_and_resumes(toy, corpus_folder, tmp_path, capsys):
    out = tmp_path / "run"
    base = [toy, "--corpus", str(corpus_folder), "--out", str(out), "--steps", "4"]
    base += ["--rows-per-step", "8", "--short", "16", "--long", "16"]
    assert train.main([*base, "--stop-at", "3"]) == 0
    assert train.main(base) == 2
    assert "--resume" in capsys.readouterr().err
    assert train.main([*base, "--resume"]) == 0
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in log] == [1, 2, 3, 4]


def test_a_finished_run_is_trained_further_in_a_new_folder(tmp_path, monkeypatch):
    """The weights and the step go on; the record keeps what came before."""
    import json

    from moeaudit.lab.bundled import train as module
    from moeaudit.lab.bundled.train import earlier

    checkpoint = {
        "facts": {"name": "tiny-olmoe", "steps": 20, "decay_steps": 5},
        "state": {"step": 20},
    }
    module.torch.save(checkpoint, tmp_path / "checkpoint.pt")
    state, before = earlier(tmp_path, {"name": "tiny-olmoe", "steps": 30})
    assert state["step"] == 20 and before["steps_made"] == 20 and before["decay_steps"] == 5
    json.dumps(before)
    for facts in ({"name": "tiny-olmoe", "steps": 20}, {"name": "tiny-qwen2-moe", "steps": 30}):
        with pytest.raises(RunError, match="20 steps"):
            earlier(tmp_path, facts)
    with pytest.raises(RunError, match="no checkpoint"):
        earlier(tmp_path / "nothing", {"name": "tiny-olmoe", "steps": 30})


BEFORE = {  # nll and balance of the first four steps in float32, written down before the lab was drawn anew
    "tiny-olmoe": ([4.17921, 4.12254, 3.99074, 3.86845], [1.003, 1.006, 1.0034, 1.0035]),
    "tiny-qwen2-moe": ([4.16674, 4.13073, 3.9891, 3.87104], [1.0051, 1.0043, 1.0036, 1.0025]),
    "tiny-deepseek-v2": ([4.14121, 4.10939, 3.97342, 3.85892], [1.0033, 1.006, 1.0019, 1.0034]),
}


def test_bundled_models_are_trained_as_they_were(family, patterns):
    settings = Settings(steps=4, decay_steps=2, **SMALL)
    training, mixture = Training(family, 64, settings, low=False), Mixture(patterns, 0)
    records = [training.advance(mixture) for _ in range(4)]
    nll, balance = BEFORE[family]
    assert [r["nll"] for r in records] == pytest.approx(nll, abs=2e-4)
    assert [r["balance"] for r in records] == pytest.approx(balance, abs=2e-4)
