"""Which files a checkpoint's weights are in: a folder's, or those of the hub's cache."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from moeaudit.errors import ModelError

HUB = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_POINTER = b"version https://git-lfs.github.com/spec/"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(source: str | Path, revision: str | None, *, cached: bool = False) -> list[Path]:
    """The safetensors files that hold the weights, as the index names them.

    Of a folder, files that the index names are listed whether they are there or not. Of a hub id,
    what the cache lacks is downloaded first, unless `cached` asks for what is there alone.
    """
    if isinstance(source, Path):
        index = source / INDEX
        named = _shards(index) if index.is_file() else [WHOLE]
        files = [source / file for file in named]
        if not index.is_file() and not files[0].is_file():
            return sorted(source.glob("*.safetensors"))
        return files
    index = _cached(source, INDEX, revision, local=cached)
    if index is None:
        files = [_cached(source, WHOLE, revision, local=cached)]
    else:
        files = [_cached(source, file, revision, local=cached) for file in _shards(index)]
    return [file for file in files if file is not None]


def require_files(folder: Path) -> None:
    """Raise ModelError for what is not there: a pointer of Git LFS, a link into nothing, a shard that is named only."""
    index = folder / INDEX
    named = [folder / name for name in _shards(index)] if index.is_file() else []
    found = sorted({*folder.glob("*.json"), *folder.glob("*.safetensors"), *named})
    absent = [file for file in found if not file.is_file()]
    if absent:
        link = next((file for file in absent if file.is_symlink()), None)
        what = (
            f"'{link}' is a link to {link.readlink()}, which is not there"
            if link is not None
            else f"{INDEX} names {len(named)} files, and {len(absent)} are absent (the first is '{absent[0].name}')"
        )
        raise ModelError(
            f"The checkpoint in '{folder}' is not whole: {what}. Download it again, or copy the files themselves."
        )
    for file in found:
        require_no_pointer(file)


def require_no_pointer(file: Path) -> None:
    """Raise ModelError for what Git LFS leaves in a file's place."""
    with file.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise ModelError(
                f"'{file}' is a pointer of Git LFS, not the file itself: the repository was cloned without it. "
                "Run `git lfs pull` in the folder, or download the checkpoint again."
            )


def meant(text: str, names: Iterable[str]) -> str:
    """What a name that is none was perhaps meant to be."""
    near = get_close_matches(text, list(names), n=1)
    return f"Did you mean {near[0]}?" if near else "Check the spelling or the path."


@cache
def reachable() -> bool:
    """Whether the hub's name can be looked up; through a proxy it need not be, and nothing is known then."""
    if any(os.environ.get(name) for name in _PROXIES):
        return True
    try:
        socket.getaddrinfo(urlsplit(HUB).hostname or "", 443)
    except OSError:
        return False
    return True


def commit_of(repo: str, revision: str | None) -> str | None:
    """The commit that a branch or tag names in the hub's cache, which keeps each in a folder of its own."""
    files = weight_files(repo, revision, cached=True)
    name = files[0].parent.name if files else ""
    return name if len(name) == 40 and set(name) <= set("0123456789abcdef") else None


def _cached(repo: str, file: str, revision: str | None, *, local: bool) -> Path | None:
    from transformers.utils.hub import cached_file

    found = cached_file(
        repo,
        file,
        revision=revision,
        local_files_only=local,
        _raise_exceptions_for_missing_entries=False,
    )
    return None if found is None else Path(found)


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"'{index}' is not an index of shards: a JSON object with 'weight_map', from tensor names to files, was "
            "expected. Get the checkpoint's own index again."
        ) from error
