"""The page's summaries from shards: one pass, and the numbers of the whole table."""

from __future__ import annotations

import pandas as pd
from made.census import census
from made.shards import Cut

from moeaudit.report.words import summary

DOMAINS = ["code", "law", "news"]


def wanted(tokens):
    return {
        "all": summary.Means(("all",)),
        "cells": summary.Cells({1: 9, 2: 9}),
        "depth": summary.Means(("layer",)),
        "spread": summary.Spread(),
        "domains": summary.ByDomain(tokens),
        "tokens": summary.TokenEffects(),
    }


def test_six_summaries_in_one_pass_equal_those_of_the_table():
    effects, _ = census(documents=11, tokens=6)
    tokens = pd.DataFrame({"document": range(11), "domain": [DOMAINS[d % 3] for d in range(11)]})
    shards = Cut(effects, 4)
    found = summary.summaries(shards, wanted(tokens))
    assert len(shards.asked) == 1
    alone = {
        "cells": summary.cells(effects, {1: 9, 2: 9}),
        "depth": summary.depth(effects),
        "spread": summary.spread(effects),
        "domains": summary.by_domain(effects, tokens),
        "tokens": summary.token_effects(effects),
    }
    for name, table in alone.items():
        pd.testing.assert_frame_equal(found[name], table, check_exact=True)
    assert summary.as_row(found["all"]) == summary.overall(effects)
    assert found["cells"].query("expert == 8")["rows"].eq(0).all()  # never active, and there
