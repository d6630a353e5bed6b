"""What pruning does to a model's confidence, where it was trained and where it was not.

    python analyses/calibration_of_pruned_models.py --out reports/calibration-of-pruned

Experts are dropped by each pruning criterion (computed on the bundled calibration split) and, for
comparison, at random. Clean and pruned models are scored on the bundled test split (domains of the
training text) and shift split (domains the bundled models never saw): signed gap, ECE, accuracy and
loss, paired by token, intervals by document, with and without one temperature fitted on further
calibration documents. Writes tables (Parquet, CSV), calibration.json, a page with reliability
diagrams per domain and signed gaps per expert, and summary.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import moeaudit as ma
from moeaudit.front import CalibrationAudit, calibration_audit
from moeaudit.pruning.asked import check_criteria
from moeaudit.pruning.choose import check_keep, choose, random_scores, tie_breaks
from moeaudit.pruning.criteria.scores import criterion_scores
from moeaudit.pruning.export.groups import groups_of
from moeaudit.runs.calibration.tables import BETWEEN, IN, SHIFTED
from moeaudit.text.choice import balanced, beginnings
from moeaudit.text.for_model import tokens_for


def pruned(model: Any, docs: Any, args: argparse.Namespace) -> dict[str, dict[int, list[int]]]:
    """The experts that go, by the name of what chose them."""
    texts, _ = beginnings(tokens_for(model, docs), args.tokens)
    names = [c for c in check_criteria(args.criteria or None) if c != "random"]
    scores, notes = criterion_scores(model, texts, names, strict=False)
    for note in notes:
        print(note)
    ties, layers, groups = tie_breaks(model, args.seed), model.anatomy.layers, groups_of(model)
    found = {}
    for name in names:
        mine = scores[scores["criterion"] == name]
        if len(mine):
            cells = zip(mine["layer"].tolist(), mine["expert"].tolist())
            found[name] = dict(zip(cells, mine["score"].tolist()))
    for draw in range(args.random):
        found[f"random {draw + 1}"] = random_scores(model, args.seed, draw)
    check_keep(model, [args.keep], groups)
    gone = {name: choose(layers, s, args.keep, "layer", ties, groups) for name, s in found.items()}
    return {
        name: {layer: list(experts) for layer, experts in banned.items()}
        for name, banned in gone.items()
    }


def entry(audit: CalibrationAudit, name: str, score: str, side: str, method: str = "none") -> str:
    row = audit.difference(name, score, side, method)
    return f"{row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"


def summary(audit: CalibrationAudit, args: argparse.Namespace) -> str:
    """The result as Markdown."""
    record, scores = audit.record, audit.tables["scores"]
    lines = [
        f"# Calibration of pruned {record['model']}",
        "",
        f"{1 - args.keep:.0%} of the experts of every layer dropped; tokens {record['tokens']}, documents "
        f"{record['documents']}. 95 % limits by document.",
        "",
        "Clean model, confidence - accuracy by domain:",
        "",
        "| side | domain | gap | with one temperature | accuracy |",
        "|---|---|---|---|---|",
    ]
    clean = scores[scores["condition"] == "clean"]
    for side in (IN, SHIFTED):
        part = clean[clean["side"] == side]
        for stratum in dict.fromkeys(part["stratum"]):
            rows = part[part["stratum"] == stratum].set_index(["method", "score"])
            cells = []
            for method in ("none", "temperature"):
                r = rows.loc[(method, "gap")]
                cells.append(f"{r['value']:+.3f} ({r['low']:+.3f} to {r['high']:+.3f})")
            accuracy = rows.loc[("none", "accuracy"), "value"]
            lines.append(f"| {side} | {stratum} | {cells[0]} | {cells[1]} | {accuracy:.3f} |")
    lines += [
        "",
        "Pruned minus clean (loss in nats per token; gap is confidence - accuracy):",
        "",
        "| chosen by | loss, in domain | loss, shifted | gap, in domain | gap, shifted | gap, shifted minus in "
        "domain | the same with a temperature of its own |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in record["conditions"][1:]:
        cells = [
            entry(audit, name, "loss", IN),
            entry(audit, name, "loss", SHIFTED),
            entry(audit, name, "gap", IN),
            entry(audit, name, "gap", SHIFTED),
            entry(audit, name, "gap", BETWEEN),
            entry(audit, name, "gap", BETWEEN, "temperature"),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny-olmoe")
    parser.add_argument("--documents", type=int, default=96, help="of each side")
    parser.add_argument("--fit", type=int, default=64, help="documents for the temperatures")
    parser.add_argument("--scored", type=int, default=32, help="documents for the criteria")
    parser.add_argument("--tokens", type=int, default=128, help="of each document; 0 for all")
    parser.add_argument("--keep", type=float, default=0.75, help="share of experts that stay")
    parser.add_argument("--criteria", nargs="*", help="all if left out")
    parser.add_argument("--random", type=int, default=3, help="random choices to compare with")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/calibration-of-pruned"))
    args = parser.parse_args()
    model = ma.load(args.model)
    sides = {split: ma.corpus("bundled", split=split) for split in ("test", "shift", "calibration")}
    home, away = (
        sides[s].subset(balanced(sides[s], args.documents, args.seed)) for s in ("test", "shift")
    )
    held = sides["calibration"]
    fitted = balanced(held, args.fit, args.seed)
    fit = held.subset(fitted)
    rest = held.subset([k for k in range(len(held)) if k not in set(fitted)])
    scored = rest.subset(balanced(rest, args.scored, args.seed))
    gone = pruned(model, scored, args)
    audit = calibration_audit(
        model,
        home,
        away,
        gone,
        fit=fit,
        tokens=args.tokens,
        draws=args.draws,
        seed=args.seed,
        out=args.out,
        progress=print,
    )
    for name, table in audit.tables.items():
        table.to_csv(args.out / "calibration" / f"{name}.csv", index=False)
    text = summary(audit, args)
    (args.out / "summary.md").write_text(text, encoding="utf-8")
    print(text)
    print(audit.report(args.out / "calibration-of-pruned.html"))


if __name__ == "__main__":
    main()
