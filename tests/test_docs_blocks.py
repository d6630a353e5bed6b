"""What README and docs print runs: every Python block as it stands, every `moeaudit` line as far as its options."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A block that no test machine can run says so itself, in its first line, and stands in this list.
REASON = re.compile(r"# Not run by the tests: (.+)")
NOT_RUN: dict[str, str] = {}
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.M | re.S)
INLINE = re.compile(r"(?<!`)`(moeaudit [^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block: the page, the line its text begins in, its language and text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why the block is not run, as its first line says; None where it is."""
        found = REASON.match(self.text)
        return None if found is None else found[1]


def blocks(page: Path) -> list[Block]:
    text, name = page.read_text("utf-8"), page.relative_to(ROOT).as_posix()
    return [
        Block(name, text[: found.start(3)].count("\n") + 1, found[2], found[3])
        for found in FENCE.finditer(text)
    ]


def python(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """(place, command line) of everything that begins with `moeaudit`, in blocks and in running text."""
    text, name = page.read_text("utf-8"), page.relative_to(ROOT).as_posix()
    for block in blocks(page):
        if block.language in ("", "bash", "console", "sh"):
            joined = re.sub(r"\\\n\s*", "  ", block.text)
            for line in joined.splitlines():
                found = re.search(r"(?:^|[ '\"(])(moeaudit [a-z-].*)", line)
                if found and not line.lstrip().startswith("#"):
                    yield block.place, found[1]
    prose = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in INLINE.finditer(prose):
        yield f"{name}:{prose[: found.start()].count(chr(10)) + 1}", " ".join(found[1].split())


def words(line: str) -> list[str]:
    """The arguments of a command line, up to a comment, a pipe or the end of the quotation it stands in."""
    quotes = [found.start() for found in re.finditer("['\"]", line)]
    for end in (
        len(line),
        *reversed(quotes),
    ):  # a quotation that began before `moeaudit` ends in the line
        lexer = shlex.shlex(line[:end], posix=True, punctuation_chars="|;&<>")
        lexer.commenters, lexer.whitespace_split = "#", True
        try:
            found = list(lexer)
        except ValueError:
            continue
        stop = next((i for i, word in enumerate(found) if set(word) <= set("|;&<>")), len(found))
        return [word.strip("[]") for word in found[1:stop]]
    return []


def parse(line: str) -> None:
    """Read a command line as `moeaudit` does, and run nothing. Raises typer's error for what it does not have."""
    from moeaudit.cli import app

    command = typer.main.get_command(app)
    arguments = words(line)
    with command.make_context("moeaudit", arguments) as context:
        rest = [*context._protected_args, *context.args]  # noqa: SLF001
        name, sub, rest = command.resolve_command(context, rest)  # type: ignore[attr-defined]
        assert sub is not None
        if hasattr(sub, "commands"):  # a group, such as `moeaudit lab`
            name, sub, rest = sub.resolve_command(context, rest)
            assert sub is not None
        sub.make_context(name, rest, parent=context).close()


def said(error: Exception) -> str:
    return error.format_message() if hasattr(error, "format_message") else repr(error)


def complete(line: str) -> bool:
    """Whether a line is more than the name of a command in running text (`moeaudit audit`), or its help."""
    return len(words(line)) > 1 and "--help" not in line


@pytest.mark.parametrize("page", [p for p in PAGES if python(p)], ids=lambda p: p.stem)
def test_python_blocks_run_as_printed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in python(page):
        if block.reason is not None:
            continue
        # A file of its own, which libraries that read their caller's source find; with empty lines before the
        # block, so that a traceback has the line of the page.
        text, path = "\n" * (block.line - 1) + block.text, tmp_path / f"{page.stem}-{block.line}.py"
        path.write_text(text, "utf-8")
        code = compile(text, str(path), "exec")
        with warnings.catch_warnings():
            warnings.simplefilter("error", category=DeprecationWarning)
            exec(code, namespace)  # noqa: S102


def test_blocks_that_are_not_run_are_known_and_say_why():
    left = {block.place: block.reason for page in PAGES for block in python(page) if block.reason}
    assert {place.rpartition(":")[0]: reason for place, reason in left.items()} == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_command_lines_are_understood(page):
    faults = []
    for place, line in commands(page):
        if not complete(line):
            continue
        try:
            parse(line)
        except Exception as error:  # noqa: BLE001
            faults.append(f"{place}: {line}: {said(error)}")
    assert not faults, "\n".join(faults)


def test_the_reader_finds_what_it_should():
    everything = [line for page in PAGES for _, line in commands(page)]
    assert sum(map(complete, everything)) > 40
    assert sum(len(python(page)) for page in PAGES) > 14
    with pytest.raises(Exception, match="--bogus"):
        parse("moeaudit audit tiny-olmoe --bogus 3")
    with pytest.raises(Exception) as wrong:
        parse("moeaudit audit tiny-olmoe --tokens many  # a comment")
    assert "--tokens" in said(wrong.value)
    assert words("moeaudit merge a/* --out b' | tee log") == ["merge", "a/*", "--out", "b"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_scripts_that_are_named_exist(page):
    text = page.read_text("utf-8")
    named = set(re.findall(r"python ((?:benchmarks|analyses)/[\w/]+\.py)", text))
    modules = set(re.findall(r"python -m ((?:moeaudit|analyses|benchmarks)[\w.]+)", text))
    places = named | {m.rstrip(".").replace(".", "/") for m in modules}
    missing = [p for p in places if not any((ROOT / e).exists() for e in (p, f"{p}.py"))]
    assert not missing
