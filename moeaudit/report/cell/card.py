"""`expert`: everything that is known of one expert, as a card."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup

from moeaudit.errors import InputError, one_of

from ..explore.data import gathered
from ..explore.source import Source
from ..pages.browser import visible
from ..words.numbers import count, estimate, percent, plural, significant
from .given import source_of
from .shown import Shown, brief, folded, framed, table

NAN = float("nan")


class ExpertCard(Shown):
    """One expert: `values` holds the numbers of the card by name, the HTML and the text show them."""

    def __init__(self, source: Source, values: dict[str, Any], notes: list[str]) -> None:
        self.layer, self.number, self.values = values["layer"], values["expert"], values
        title = f"{source.model}: layer {self.layer}, expert {self.number}"
        html = framed("card", title, *_parts(title, values, notes))
        super().__init__(html, _plain(title, values, notes))


def expert(
    effects: Any,
    layer: int | np.integer,
    expert: int | np.integer,
    *,
    tokens: Any = None,
    metrics: Any = None,
) -> ExpertCard:
    """The card of one expert: what it is used for, what editing it does and where, and who stands beside it.

    Parameters
    ----------
    effects
        A run (`ma.Run.load(folder)`), its effects, or those of `ma.ablate(model, docs)`, in memory or in a folder.
    layer, expert
        Decoder layer index and expert number.
    tokens
        A trace of the same documents (`ma.capture(model, docs, following=True)`), or a tokens table
        (`run.tokens`), for texts, what the model predicts, and who is next in line. A run brings its own, effects of
        `ablate` their texts.
    metrics
        `ma.expert_metrics(trace)`, for the expert's rank under each; a run brings its own.

    Returns
    -------
    A card that shows itself in a notebook (HTML without scripts, under 200 KB) and prints as text. `.values` has the
    numbers: harm and KL with 95% limits by document (nats), use (share of the layer's choices), by domain, ranks
    (1 is the largest of the layer), strongest and weakest tokens, `beside`, `replaced` (who is next in line) and
    `identity` (the share of variance that token identity alone explains); null where something is not known.

    Raises InputError for anything but effects of one active expert each, a layer that they do not hold, an expert that
    the layer does not have, and texts of other documents.
    """
    source, notes = source_of(effects, tokens, metrics)
    one_of(_whole(layer, "layer"), sorted(source.experts), "layer")
    n = source.experts[int(layer)]
    if not 0 <= _whole(expert, "expert") < n:
        raise InputError(
            f"Layer {layer} has no expert {expert}: it has {plural(n, 'expert')}, 0 to {n - 1}."
        )
    found = gathered(replace(source, experts={int(layer): n}), rows=0)
    return ExpertCard(source, _values(found, int(expert), n), notes)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(
            f"The {name} is {value!r}; a whole number was expected, as in the effects."
        )
    return int(value)


def _values(found: dict[str, Any], expert: int, n: int) -> dict[str, Any]:
    """The entries of one expert of the only layer in `found`."""
    out = {name: column[expert] for name, column in found["cells"].items()}
    domains = found["by_domain"]
    mine = [i for i, cell in enumerate(domains["cell"]) if cell == expert]
    names = [name for name in domains if name not in ("cell", "domain")]
    out["by_domain"] = [
        {"domain": found["domains"][domains["domain"][i]]} | {x: domains[x][i] for x in names}
        for i in mine
    ]
    out |= {"experts": n, "harm_rank": found["harm_rank"][expert], "few": found["few"]}
    out["metrics"] = {
        entry["name"]: {
            "value": found["metric_values"][key][expert],
            "rank": found["metric_ranks"][key][expert],
        }
        for key, entry in found["metrics"].items()
    }
    for name in ("beside", "replaced"):
        out[name] = None if found[name] is None else found[name][expert]
        out[f"{name}_why"] = found[f"{name}_why"]
    out["identity"] = {name: found["identity"][name][expert] for name in ("use", "harm")}
    out["identity_why"] = found["identity"]["why"]
    return out | found["contexts"][expert]


def _number(value: Any) -> float:
    return NAN if value is None else float(value)


def _interval(values: dict[str, Any], name: str, sign: bool = True) -> str:
    return estimate(
        _number(values[name]),
        _number(values[f"{name}_low"]),
        _number(values[f"{name}_high"]),
        sign,
    )


def _sentences(v: dict[str, Any]) -> list[str]:
    """What the card says first."""
    if not v["n"]:
        return [
            "No token of these documents chose this expert, so nothing is known of what it does."
        ]
    used = "" if v["use"] is None else f" ({percent(_number(v['use']))} of its layer's choices)"
    said = [
        f"Chosen {count(v['n'])} times{used} in {plural(v['documents'], 'document')}, with a mean gate weight of "
        f"{significant(_number(v['weight']), 3)}.",
        f"Editing it where it is chosen changes the loss on the next token by {_interval(v, 'delta_nll')} nats (harm; "
        f"rank {v['harm_rank']} of {v['experts']} in its layer), the prediction by {_interval(v, 'kl', False)} nats "
        f"(KL), and flips {percent(_number(v['flip']))} of the top predictions. Limits hold 95%, by document.",
    ]
    if v["n"] < v["few"]:
        said.append(f"Fewer than {v['few']} rows: limits may be too short.")
    return said


def _beside(v: dict[str, Any]) -> list[str]:
    """Who stands beside it, who is next in line, and what the token alone explains."""
    said = []
    if v["beside"] is None:
        said.append(f"Who stands beside it is not known. {v['beside_why']}")
    elif v["beside"]:
        some = "; ".join(
            f"expert {e} ({percent(_number(share), 0)} of its tokens, {significant(_number(lift), 2)} times chance)"
            for e, share, lift in v["beside"]
        )
        said.append(f"Chosen with it: {some}.")
    if v["replaced"] is None:
        said.append(f"Who is next in line is not known. {v['replaced_why']}")
    elif v["replaced"]:
        some = "; ".join(f"expert {e} ({percent(_number(share), 0)})" for e, share in v["replaced"])
        said.append(f"Next in line if it may not be chosen: {some} of its tokens.")
    shares = [
        f"{percent(_number(v['identity'][name]), 0)} of the variance of its {name}"
        for name in ("use", "harm")
        if v["identity"][name] is not None
    ]
    if shares:
        said.append(f"Which token it is explains, alone, {' and '.join(shares)}.")
    lacking = [name for name in ("use", "harm") if v["identity"][name] is None]
    if lacking:
        said.append(
            f"How much token identity explains of its {' and '.join(lacking)} is not known: {v['identity_why']}."
        )
    return said


def _parts(title: str, v: dict[str, Any], notes: list[str]) -> list[Markup]:
    parts = [Markup("<h3>{}</h3>").format(title)]
    parts += [Markup("<p>{}</p>").format(said) for said in _sentences(v)]
    if v["n"]:
        parts += [
            _context("Where it does most", v["strong"]),
            _context("Where it does least", v["weak"]),
            *(Markup("<p>{}</p>").format(said) for said in _beside(v)),
            _domains(v),
        ]
    if v["metrics"]:
        rows = [
            [
                name,
                significant(_number(m["value"]), 3),
                "\N{EN DASH}" if m["rank"] is None else m["rank"],
            ]
            for name, m in v["metrics"].items()
        ]
        told = f"Rank in its layer, of {v['experts']}; 1 is the largest value"
        parts.append(
            folded("Its rank under each metric", table(["metric", "value", "rank"], rows, told))
        )
    return parts + [Markup('<p class="note">{}</p>').format(note) for note in notes]


def _context(title: str, rows: list[dict[str, Any]]) -> Markup:
    if not rows:
        return Markup("")
    known = any(row["top"] is not None or row["edited"] is not None for row in rows)
    head = ["in context", "next", "harm", "KL", "weight"]
    lines = []
    for row in rows:
        said = Markup('<span class="said">{}<b>{}</b></span>').format(
            visible(row["before"])[-40:] if row["before"] else "", brief(row["token"])
        )
        line = [
            said,
            _word(row["next"]),
            significant(_number(row["delta_nll"]), 3, True),
            significant(_number(row["kl"]), 3),
            significant(_number(row["weight"]), 2),
        ]
        if known:
            line += [_word(row["top"]), _word(row["edited"])]
        lines.append([*line, f"{row['d']}, {row['p']}"])
    head += ["predicted", "predicted without it"] if known else []
    return table([*head, "document, position"], lines, title)


def _word(text: str | None) -> Markup:
    if text is None:
        return Markup("\N{EN DASH}")
    return Markup('<span class="said">{}</span>').format(brief(text))


def _domains(v: dict[str, Any]) -> Markup:
    rows = [d for d in v["by_domain"] if d["domain"]]
    if not rows:
        return Markup("")
    most = max(abs(_number(d["delta_nll"])) for d in rows) or 1.0
    lines = [
        [
            d["domain"],
            count(d["n"]),
            Markup("{} {}").format(_interval(d, "delta_nll"), _bar(_number(d["delta_nll"]), most)),
            significant(_number(d["kl"]), 2),
        ]
        for d in sorted(rows, key=lambda d: -_number(d["delta_nll"]))
    ]
    head = ["domain", "rows", "harm (nats)", "KL (nats)"]
    return folded("By domain", table(head, lines, "Mean over the tokens that chose it"), True)


def _bar(value: float, most: float) -> Markup:
    side = " less" if value < 0 else ""
    return Markup('<span class="bar{}" style="width:{}px"></span>').format(
        side, round(60 * min(1.0, abs(value) / most))
    )


def _plain(title: str, v: dict[str, Any], notes: list[str]) -> str:
    lines = [title, *_sentences(v)]
    if v["n"]:
        for name, rows in (("most", v["strong"]), ("least", v["weak"])):
            lines.append(f"Where it does {name}:")
            for row in rows:
                before = visible(row["before"])[-32:] if row["before"] else ""
                after = "" if row["next"] is None else f" -> {brief(row['next'])}"
                changed = ""
                if row["top"] is not None and row["edited"] is not None:
                    changed = f"  {brief(row['top'])} => {brief(row['edited'])}"
                lines.append(
                    f"  {significant(_number(row['delta_nll']), 3, True):>9}  ...{before}[{brief(row['token'])}]"
                    f"{after}{changed}"
                )
        lines += _beside(v)
    ranks = [f"{name} {m['rank']}" for name, m in v["metrics"].items() if m["rank"] is not None]
    if ranks:
        lines.append(f"Ranks of {v['experts']} (1 is the largest): {', '.join(ranks)}.")
    return "\n".join([*lines, *notes])
