"""What a model shows of itself in a notebook: its layers drawn, its router's rule in words."""

from __future__ import annotations

import html
from typing import Any

from moeaudit.frames.shown import bullets, rows

from ..anatomy import MoELayer

Model = Any  # the class shows this page, so it is not imported here

WIDTH, HEIGHT, TOP = 640, 72, 14  # of the drawing; TOP is the band of a shared expert
MANY = 400  # layers; more would not be told apart


def page(model: Model) -> str:
    """The anatomy as a small picture, the facts as a table, the notes as a list."""
    provenance = model.provenance
    facts = [
        ("architecture", model.anatomy.architecture),
        ("layers", layers_in_words(model)),
        ("router", rule(model)),
        ("shared expert", shared_in_words(model)),
        ("parameters", f"{model.hf.num_parameters():,}"),
        ("precision, device", f"{str(model.dtype).removeprefix('torch.')}, {model.device}"),
        ("experts function", model.experts_implementation),
        ("reads", f"up to {model.max_length:,} tokens at once, of {model.vocab_size:,} kinds"),
        ("source", provenance.get("source")),
        ("weights", provenance.get("weights_sha256") or "not hashed"),
    ]
    title = (
        f"<p><b>{html.escape(model.name)}</b>: a language model whose experts can be audited.</p>"
    )
    return title + picture(model) + rows(facts) + bullets(model.notes)


def layers_in_words(model: Model) -> str:
    layers = model.anatomy.layers
    dense = [i for i in range(model.anatomy.n_layers) if i not in set(model.anatomy.indices)]
    said = f"{model.anatomy.n_layers}, of which {len(layers)} hold routed experts"
    return said + (f"; dense: {', '.join(map(str, dense))}" if dense else "")


def rule(model: Model) -> str:
    """How experts are chosen and weighted, as found on a forward pass; groups of equal layers together."""
    said: dict[str, list[int]] = {}
    for layer in model.anatomy.layers:
        router = "router not found" if layer.router is None else type(layer.router).__name__
        weights = (
            "the weights of the chosen sum to one"
            if layer.weights_sum_to_one
            else "the weights of the chosen are used as scored and do not sum to one"
        )
        line = (
            f"each token goes to {layer.top_k} of {layer.num_experts} experts; {weights} ({router})"
        )
        said.setdefault(line, []).append(layer.index)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"layers {', '.join(map(str, found))}: {line}" for line, found in said.items())


def shared_in_words(model: Model) -> str:
    with_shared = [layer.index for layer in model.anatomy.layers if has_shared(layer)]
    if not with_shared:
        return "none"
    whole = len(with_shared) == len(model.anatomy.layers)
    where = "every layer with routed experts" if whole else f"layers {with_shared}"
    return f"in {where}: every token passes it, beside the routed experts"


def has_shared(layer: MoELayer) -> bool:
    """Whether the block holds a module called shared..., as `SharedExpert` looks for it."""
    return layer.block is not None and any("shared" in n for n, _ in layer.block.named_children())


def picture(model: Model) -> str:
    """Decoder layers from left to right: dense ones empty, of MoE layers the active share filled."""
    n = min(model.anatomy.n_layers, MANY)
    moe = {layer.index: layer for layer in model.anatomy.layers}
    step = min(44.0, WIDTH / n)
    gap = min(4.0, step / 5)
    body = HEIGHT - TOP
    drawn = []
    for i in range(n):
        x, wide = round(i * step + 1, 1), round(step - gap, 1)
        layer = moe.get(i)
        tip = f"layer {i}: dense"
        shapes = (
            f'<rect x="{x}" y="{TOP}" width="{wide}" height="{body}" fill="none" '
            'stroke="currentColor" opacity=".5"/>'
        )
        if layer is not None:
            high = max(3.0, round(body * layer.top_k / layer.num_experts, 1))
            tip = f"layer {i}: {layer.top_k} of {layer.num_experts} experts active"
            shapes = (
                f'<rect x="{x}" y="{TOP}" width="{wide}" height="{body}" fill="#7c9cf5" fill-opacity=".35" '
                f'stroke="#4a6fd8"/><rect x="{x}" y="{HEIGHT - high}" width="{wide}" height="{high}" fill="#4a6fd8"/>'
            )
            if has_shared(layer):
                tip += ", one shared"
                shapes += f'<rect x="{x}" y="0" width="{wide}" height="{TOP - 4}" fill="#d98a2b"/>'
        drawn.append(f"<g><title>{tip}</title>{shapes}{_number(i, n, x + wide / 2, step)}</g>")
    wide = round(n * step + 2)
    label = html.escape(f"{model.name}: {layers_in_words(model)}", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" viewBox="0 0 {wide} {HEIGHT + 16}" '
        f'style="max-width:{wide}px;width:100%;height:auto">{"".join(drawn)}</svg>' + _key(model)
    )


def _number(i: int, n: int, x: float, step: float) -> str:
    every = 1 if step >= 18 else -(-n // 12)
    if i % every and i != n - 1:
        return ""
    return (
        f'<text x="{round(x, 1)}" y="{HEIGHT + 13}" font-size="11" text-anchor="middle" '
        f'fill="currentColor">{i}</text>'
    )


def _key(model: Model) -> str:
    """What the marks are, in words: a picture without a key says nothing."""
    said = [
        "Decoder layers, first to last.",
        "Blue: routed experts, the dark part is the active share.",
    ]
    if len(model.anatomy.layers) < model.anatomy.n_layers:
        said.append("Empty: dense, nothing is routed.")
    if any(map(has_shared, model.anatomy.layers)):
        said.append("Orange: a shared expert.")
    if model.anatomy.n_layers > MANY:
        said.append(f"The first {MANY} are drawn.")
    return f"<p><small>{' '.join(said)}</small></p>"
