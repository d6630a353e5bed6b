"""The bundled models' shared vocabulary: a byte-level BPE of 2,048 tokens.

    python -m moeaudit.text.making.tokenizer --corpus corpus --out moeaudit/models/bundled/tokenizer

Trained on equal amounts of the train split of each training domain. Digits stand alone. Every
byte is in the vocabulary, so no text is unknown. `<|endoftext|>` (id 0) opens every document and
serves as end and padding too. Training is deterministic: the same corpus gives the same file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from moeaudit.errors import InputError, MoeAuditError

from .full import documents_of
from .slices import TRAINING_DOMAINS
from .split import text_id

VOCABULARY = 2048
BOUNDARY = "<|endoftext|>"
SAMPLE = 1_500_000  # bytes of text a domain


def sample(corpus: Path, size: int = SAMPLE) -> list[str]:
    """About `size` bytes of train documents of each training domain, chosen by their hash."""
    texts: list[str] = []
    for domain in TRAINING_DOMAINS:
        documents = [document.text for document in documents_of(corpus, domain, "train")]
        taken = 0
        for text in sorted(documents, key=text_id):
            if taken >= size:
                break
            taken += len(text.encode("utf-8"))
            texts.append(text)
    return texts


def train(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """A byte-level BPE with `vocabulary` tokens, 256 bytes and one special token among them."""
    tokenizer = Tokenizer(models.BPE())
    # ByteLevel's default regex splits off words with their leading space.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOUNDARY],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    boundary = tokenizer.token_to_id(BOUNDARY)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOUNDARY} $A",
        pair=f"{BOUNDARY} $A {BOUNDARY} $B:1",
        special_tokens=[(BOUNDARY, boundary)],
    )
    return tokenizer


def save(tokenizer: Tokenizer, out: Path) -> None:
    """Write the folder that transformers' PreTrainedTokenizerFast.from_pretrained reads."""
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOUNDARY,
        "eos_token": BOUNDARY,
        "pad_token": BOUNDARY,
        "clean_up_tokenization_spaces": False,
    }
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moeaudit.text.making.tokenizer", description=__doc__
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder made by text.build")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tokenizer")
    options = parser.parse_args(arguments)
    try:
        texts = sample(options.corpus)
        if not texts:
            raise InputError(f"{options.corpus} holds no documents of the training domains.")
        tokenizer = train(texts)
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    save(tokenizer, options.out)
    size = tokenizer.get_vocab_size()
    sys.stdout.write(f"{size} tokens from {len(texts):,} documents in {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
