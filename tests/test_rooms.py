"""The house: who may import whom, read from every import, lazy ones inside functions too."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = {"errors", "seeds", "frames", "version"}
# A room may import the rooms named here, besides itself, the ground, `stats` and `store`.
MAY = {
    "models": set(),
    "text": {"models"},
    "observe": {"text", "models"},
    "causal": {"observe", "text", "models"},
    "pruning": {"causal", "observe", "text", "models"},
    "runs": {"pruning", "causal", "observe", "text", "models", "calibration"},
    "report": {"runs", "pruning", "causal", "observe", "text", "models", "calibration"},
    "lab": {"text", "models", "observe"},
    "stats": set(),
    "store": set(),
    "calibration": {"stats"},
}
MAY["front"] = {"report", *MAY["report"]}
MAY["cli"] = {"front", "lab", *MAY["front"]}
MAY["__main__"] = {"cli"}  # python -m moeaudit: no room, and Python lets it stand nowhere else
# Rooms that know neither statistics nor tables of their own.
ALONE = {"stats": GROUND, "store": GROUND}
NO_TORCH = ("stats", "calibration", "store")
MOST_ENTRIES = 14
MOST_ROOMS = 19  # the top: twelve rooms, the front door, `python -m moeaudit` and the ground


@cache
def modules() -> dict[str, Path]:
    """Modules of the package, the analyses and the benchmarks by dotted name."""
    found = {}
    for top in ("moeaudit", "analyses", "benchmarks"):
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _package(name: str) -> list[str]:
    parts = name.split(".")
    return parts if modules()[name].name == "__init__.py" else parts[:-1]


@cache
def imports(name: str, *, typing: bool = True) -> frozenset[str]:
    """Everything a module imports, as whole dotted names; without `typing`, what runs only."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if not typing and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _package(name)[: len(_package(name)) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                beside = f"{name.rpartition('.')[0]}.{base}"  # scripts beside each other
                local = beside if beside in modules() and node.level == 0 else base
                found.add(whole if whole in modules() else local)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(modules()[name].read_text("utf-8")))
    return frozenset(found)


def inner(name: str) -> set[str]:
    """The modules of this repository that a module imports, other than itself.

    An import of a room through its face stands for what the face hands on: the arrow to the face
    is kept, since running it runs everything the face imports.
    """
    return {target for target in imports(name) if target in modules() and target != name}


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


PACKAGE = [name for name in modules() if name.startswith("moeaudit.")]


@pytest.mark.parametrize("here", sorted(MAY))
def test_arrows_between_rooms(here):
    inside = [name for name in PACKAGE if room(name) == here]
    assert inside, f"there is no room {here}; draw the house anew here and in CONTRIBUTING.md"
    may = ALONE.get(here, MAY[here] | GROUND | {"stats", "store"}) | {here}
    wrong = [
        f"{name} -> {target}"
        for name in inside
        for target in inner(name)
        if room(target) not in may
    ]
    assert not wrong, "an import against the arrows:\n" + "\n".join(sorted(wrong))


def test_every_module_stands_in_a_room():
    rooms = {room(name) for name in PACKAGE}
    assert rooms == set(MAY) | GROUND


@pytest.mark.parametrize("name", sorted(GROUND))
def test_the_ground_rests_on_nothing(name):
    assert not {target for target in inner(f"moeaudit.{name}") if room(target) not in GROUND}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other in a loop (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def walk(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in arrows[node]:
            if target not in index:
                walk(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in arrows:
        if node not in index:
            walk(node)
    return found


def test_no_import_circle():
    arrows = {name: inner(name) for name in modules()}
    assert not circles(arrows), "\n".join(map(str, circles(arrows)))


def test_the_circle_finder_finds_circles():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_check_shares_no_code_with_the_walk():
    wrong = [
        f"{name} -> {target}"
        for name in PACKAGE
        if name.startswith("moeaudit.causal.check")
        for target in inner(name)
        if target.startswith(("moeaudit.causal.walk", "moeaudit.causal.attention"))
    ]
    assert not wrong, wrong


def test_operators_are_data():
    wrong = [
        f"{name} -> {target}"
        for name in PACKAGE
        if name.startswith("moeaudit.causal.operators")
        for target in imports(name)
        if target.startswith(("moeaudit.causal.walk", "moeaudit.causal.check"))
        or target.split(".")[0] in ("nnsight", "transformer_lens")
    ]
    hooks = [
        name
        for name in PACKAGE
        if name.startswith("moeaudit.causal.operators")
        and "register_forward" in modules()[name].read_text("utf-8")
    ]
    assert not wrong and not hooks, (wrong, hooks)


@pytest.mark.parametrize("here", NO_TORCH)
def test_rooms_without_torch(here):
    wrong = [
        name
        for name in PACKAGE
        if room(name) == here
        for target in imports(name)
        if target.split(".")[0] in ("torch", "transformers")
    ]
    assert not wrong, f"{here} knows arrays and frames, no torch: {wrong}"


def test_no_folder_is_a_heap():
    folders = {path.parent for path in modules().values() if "moeaudit" in path.parts}
    skipped = {"__pycache__", "py.typed"}
    full = {
        str(folder.relative_to(ROOT)): len(entries)
        for folder in folders
        if len(entries := [e for e in folder.iterdir() if e.name not in skipped])
        > (MOST_ROOMS if folder.name == "moeaudit" else MOST_ENTRIES)
    }
    assert not full, f"more than {MOST_ENTRIES} entries: {full}"


def test_a_wrong_arrow_and_a_lazy_import_are_seen(tmp_path, monkeypatch):
    odd = tmp_path / "odd.py"
    odd.write_text("def f():\n    from ..runs import spec\n    import torch\n")
    monkeypatch.setitem(modules(), "moeaudit.stats.odd", odd)
    assert imports("moeaudit.stats.odd") == {"moeaudit.runs.spec", "torch"}
