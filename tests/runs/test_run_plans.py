"""Plans: frozen to a file, followed by an audit, amended in the open, held against a run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from made import tiny_run
from made.without_page import without_page

import moeaudit as ma
from moeaudit.errors import InputError, RunError
from moeaudit.runs.plans import Plan
from moeaudit.runs.plans.frozen import _hash
from moeaudit.store.files import write_json

pytestmark = pytest.mark.usefixtures("no_page")
ASKED = {"tokens": 12, "verify_rows": 2, "sesoi": "0.01nats", "metrics": ["reap", "ean"]}


def settle(model, path, **changes):
    return ma.plan(model, tiny_run.TEXTS, path=path, **{**ASKED, **changes})


@pytest.fixture(scope="module")
def planned(tiny_model, tmp_path_factory):
    """A plan, and the run that followed it."""
    folder = tmp_path_factory.mktemp("planned")
    settle(tiny_model, folder / "plan.json")
    with without_page():
        run = ma.audit(
            tiny_model, tiny_run.TEXTS, out=folder / "run", plan=folder / "plan.json", **ASKED
        )
    return folder / "plan.json", run


def test_a_plan_settles_the_whole_question(planned):
    record = json.loads(planned[0].read_text())
    assert record["metrics"] == ["ean", "reap"] and record["audit"]["sesoi"] == "0.01nats"
    assert record["audit"]["layers"] == [0, 1, 2] and record["audit"]["tested"] == [
        "delta_nll",
        "kl",
    ]
    assert record["audit"]["alpha"] == record["protocol"]["alpha"] == 0.05
    assert len(record["sha256"]) == 64 and record["frozen"].endswith("+00:00")
    assert set(record["code"]) == {"commit", "dirty", "reason"}
    assert Plan.read(planned[0]).sha256 == record["sha256"]


def test_the_run_follows_it_and_nothing_differs(planned):
    path, run = planned
    table = ma.check_plan(run, path)
    assert table.attrs["kept"] and table["equal"].all()
    assert run.record["plan"]["sha256"] == Plan.read(path).sha256
    tests = run.tests
    assert set(tests["metric"][tests["role"] == "metric"]) == {"reap", "ean"}
    assert set(tests["status"]) == {"confirmatory"} and tests["differs"].isna().all()
    within = tests[tests["question"] == "within-token contrast"]
    assert within["sesoi_nats"].to_numpy(float) == pytest.approx(0.01)
    assert within["sesoi"].nunique() == len(within)
    assert run.record["protocol"]["sesoi"] == "0.01nats"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sesoi": 0.3}, "sesoi is '0.01nats' in the plan and '0.3' here"),
        ({"alpha": 0.5}, "alpha is 0.05 in the plan and 0.5 here"),
        ({"seed": 7}, "seed is 0 in the plan and 7 here"),
        ({"documents": 6}, "effect_documents is 10 in the plan and 6 here"),
        ({"metrics": ["ean"]}, "metrics is"),
        ({"layers": [0, 1]}, "layers is"),
        ({"outcome": "kl"}, "tested is"),
        ({"operator": "renormalize"}, "question.operator.operator is 'Zero'"),
    ],
)
def test_another_audit_is_refused_and_the_field_named(
    planned, tiny_model, tmp_path, changes, named
):
    with pytest.raises(RunError, match="not the one that was planned") as error:
        ma.audit(
            tiny_model, tiny_run.TEXTS, out=tmp_path / "x", plan=planned[0], **{**ASKED, **changes}
        )
    assert named in str(error.value)
    assert not (tmp_path / "x").exists()


def test_a_run_begun_without_the_plan_is_not_taken_for_one(planned, tiny_model, tmp_path):
    later = settle(tiny_model, tmp_path / "later.json", seed=0)
    with pytest.raises(RunError, match="not begun under this plan"):
        ma.audit(
            tiny_model, tiny_run.TEXTS, out=planned[1].folder, plan=replace_time(later), **ASKED
        )
    # Frozen after the run began: no plan of it, whatever it says.
    table = ma.check_plan(planned[1], replace_time(later)).set_index("field")
    assert not table.attrs["kept"]
    assert not table["equal"]["frozen before the run"]
    assert not table["equal"]["plan named by the run"]
    assert table["equal"].drop(["frozen before the run", "plan named by the run"]).all()


def replace_time(plan: Plan) -> Plan:
    """The same plan, frozen in a later year."""
    record = {**plan.record, "frozen": "2999-01-01T00:00:00+00:00"}
    return Plan({**record, "sha256": _hash(record)})


def test_an_amendment_is_a_file_of_its_own_and_says_what_and_why(planned, tiny_model, tmp_path):
    path, run = planned
    with pytest.raises(InputError, match="needs a reason"):
        settle(tiny_model, tmp_path / "a.json", amend=path, sesoi=0.2)
    with pytest.raises(InputError, match="changes nothing"):
        settle(tiny_model, tmp_path / "a.json", amend=path, why="again")
    with pytest.raises(RunError, match="not written over"):
        settle(tiny_model, path, sesoi=0.2)
    before = path.read_bytes()
    settle(tiny_model, tmp_path / "a.json", amend=path, why="a wider bound", sesoi=0.2)
    amends = Plan.read(tmp_path / "a.json").record["amends"]
    assert path.read_bytes() == before
    assert amends["sha256"] == Plan.read(path).sha256 and amends["why"] == "a wider bound"
    assert amends["changes"] == [{"field": "sesoi", "was": "0.01nats", "is": "0.2"}]
    table = ma.check_plan(run, tmp_path / "a.json")
    assert not table.attrs["kept"]
    assert "sesoi" in set(table.loc[~table["equal"], "field"])


def test_an_edited_plan_is_refused(planned, tmp_path):
    record = json.loads(planned[0].read_text())
    record["audit"]["seed"] = 1
    write_json(tmp_path / "edited.json", record)
    with pytest.raises(RunError, match="changed after it was frozen"):
        Plan.read(tmp_path / "edited.json")
    for text, why in (("no", "cannot be read"), ("{}", "not a plan")):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(RunError, match=why):
            Plan.read(tmp_path / "other.json")


def test_tests_that_were_made_otherwise_are_found(planned, tmp_path):
    """The table of tests itself is held against the plan, not only what the record says."""
    import shutil

    from moeaudit.stats import contrast, together
    from moeaudit.store.files import write_table

    path, run = planned
    shutil.copytree(run.folder, tmp_path / "run")
    experts = run.experts[run.experts["metric"].isin(["reap", "ean"])]
    other = [contrast(run.effects, experts, outcome=y, sesoi=0.3) for y in ("delta_nll", "kl")]
    write_table(tmp_path / "run" / "tests.parquet", together(other))
    table = ma.check_plan(tmp_path / "run", path)
    assert not table.attrs["kept"]
    row = table.set_index("field").loc["settings, within-token contrast, kl"]
    assert row["planned"] == {"sesoi": "0.01nats"} and row["found"] == {"sesoi": 0.3}


def test_the_tests_in_other_domains_are_held_against_the_plan_too(tiny_model, tmp_path):
    from moeaudit.stats import expert_harm, together
    from moeaudit.store.files import write_table

    for name in ("poems", "laws"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        for number in range(3):
            text = f"{name} {number}: section {number * 7} of the {name} says that it is so."
            (tmp_path / "texts" / name / f"{number}.txt").write_text(text)
    asked = {**ASKED, "layers": [0], "shift": tmp_path / "texts"}
    path, out = tmp_path / "plan.json", tmp_path / "run"
    ma.plan(tiny_model, tiny_run.TEXTS, path=path, **asked)
    run = ma.audit(tiny_model, tiny_run.TEXTS, out=out, plan=path, **asked)
    table = ma.check_plan(run, path).set_index("field")
    assert table.attrs["kept"] and table["equal"].all()
    declared = table.loc["shift: tests as declared"]
    assert declared["planned"] == declared["found"] == len(run.shift.tests) > 0
    assert table.loc["shift: documents in the effects", "found"] == run.spec.shift_documents
    # Ranked against another bound than was declared: no row of them is confirmatory any more.
    tests = run.shift.tests
    kept = tests[tests["question"] == "within-token contrast"]
    kept.attrs = tests.attrs
    harm = [
        expert_harm(run.shift.effects, run.experts, outcome=y, sesoi=0.6, layers=[0])
        for y in ("delta_nll", "kl")
    ]
    write_table(out / "shift_tests.parquet", together([kept, *harm]))
    table = ma.check_plan(out, path).set_index("field")
    assert not table.attrs["kept"] and table.loc["tests as declared", "equal"]
    assert not table.loc["shift: tests as declared", "equal"]
    reasons = table.loc[["shift: test differs"], "found"]
    assert any("sesoi: 0.3 was declared, 0.6 was used" in reason for reason in reasons)


def test_a_plan_needs_options_that_exist(tiny_model, tmp_path):
    with pytest.raises(InputError, match="no option colour"):
        settle(tiny_model, tmp_path / "p.json", colour="red")
    with pytest.raises(InputError, match="Unknown metric 'blue'"):
        settle(tiny_model, tmp_path / "p.json", metrics=["blue"])
    assert not list(tmp_path.iterdir())


def test_documents_from_a_pilot(planned):
    from moeaudit.stats.sizes.power import documents_to_decide

    run = planned[1]
    table = ma.documents_needed(run, sesoi="0.02nats", power=0.9)
    assert len(table) == 6
    first = table.iloc[0]
    tests = run.tests
    cell = tests[
        (tests["question"] == "within-token contrast")
        & (tests["outcome"] == first["outcome"])
        & (tests["layer"] == first["layer"])
        & (tests["metric"] == first["metric"])
    ].iloc[0]
    sd = cell["mean_difference"] / cell["d_z"]
    assert first["sesoi"] == pytest.approx(0.02 / sd)
    se = (cell["design_effect"] / cell["n"]) ** 0.5
    level = 0.05 / cell["family_size"]
    needed = documents_to_decide(
        float(se), int(cell["n_documents"]), float(0.02 / sd), float(level), float(level), 0.9
    )
    assert first["documents"] == needed
    # Half the bound needs about four times the documents, and more power needs more.
    half = ma.documents_needed(run, sesoi="0.01nats", power=0.9)["documents"]
    assert half[0] / needed == pytest.approx(4, rel=0.2)
    assert ma.documents_needed(run, sesoi="0.02nats", power=0.5)["documents"][0] < needed
    share = ma.documents_needed(run, sesoi="50%harm").set_index(["outcome", "layer"])
    harm = run.effects.groupby("layer")["kl"].mean()
    assert share.loc[("kl", 0), "sesoi_nats"] == pytest.approx(harm[0] / 2)
    with pytest.raises(InputError, match="power is 2"):
        ma.documents_needed(run, power=2)


def test_a_run_without_tests_is_no_pilot(tiny_model, tmp_path):
    path = tmp_path / "p.json"
    kw = {**ASKED, "operator": "skip", "layers": [0]}
    ma.plan(tiny_model, tiny_run.TEXTS, path=path, **kw)
    run = ma.audit(tiny_model, tiny_run.TEXTS, out=tmp_path / "run", plan=path, **kw)
    with pytest.raises(RunError, match="no tests to plan from"):
        ma.documents_needed(run)
    table = ma.check_plan(run, path)
    assert list(table.loc[~table["equal"], "field"]) == ["tests"]


def test_the_default_bound_leaves_the_hash_of_older_runs(planned):
    spec = planned[1].spec
    plain = replace(spec, sesoi="0.1", metrics=())
    assert "sesoi" not in plain.canonical() and "sesoi" in plain.to_dict()
    assert '"sesoi":"0.01nats"' in spec.canonical()
