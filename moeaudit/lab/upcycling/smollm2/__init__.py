"""SmolLM2-135M, a real language model that a package ships: its file, the dense model, its mixture of experts."""

from __future__ import annotations

from .dense import llama as llama
from .dense import tokenizer as tokenizer
from .gguf import read_gguf as read_gguf
from .package import file_bytes as file_bytes

__all__ = ["file_bytes", "llama", "read_gguf", "tokenizer"]
