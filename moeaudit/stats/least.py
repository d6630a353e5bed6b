"""The least numbers that a claim needs, each with its reason. Below them a table says so instead.

Documents are the sampling unit of every interval, so most of these count documents.
"""

from __future__ import annotations

# Refused or left out below these.
DOCUMENTS_FOR_HARM = 4  # reliability from halves of the documents: two in each half
DOCUMENTS_PER_DOMAIN = 6  # the fewest that comparing domains was measured with (`heterogeneity`)
DOCUMENTS_FOR_LIMITS = 5  # limits of a calibration score: fewer resample to themselves too often
DOCUMENTS_PER_EXPERT = 10  # an expert active in fewer has no harm of its own to be ranked by
DOCUMENTS_PER_SIDE = 10  # a calibration audit: of the trained domains and of the shifted ones, each
EFFECTIVE_SIZE = 10  # (sum w)^2 / sum w^2 of weighted predictions: below it a few rows are all

# No verdict below these; `few` reads what documents hold, and says how each was measured.
DOCUMENTS_FOR_VERDICT = (
    12  # 8 documents without effects: something is claimed up to .25 of the time
)
CARRIERS = 100  # tokens: 5 % that carry everything, 50 documents: about 57
DOCUMENTS_WORTH = 6.0  # documents that carry the effect, or that the lengths leave
WORTH_IF_LINKED = 60.0  # documents, by Kish's number, where effects go with length
WORTH_IF_LEANING = 20.0  # documents, by Kish's number, where tokens lean to one side

# Claimed with a caution below these; measured in docs/methods/validity.md and sampling.md.
REMOVALS_FOR_LIMITS = 30  # of one expert: below, limits of its harm hold it less often
FEW_DOCUMENTS = 25  # what holds from 25 documents on is not claimed below
FEW_TOKENS = 500  # heavy tails: the deviation that d_z divides by is hardly known
FEW_FOR_POWER = 50  # skewed documents: power up to 7 points lower than planned


def documents_for_folds(folds: int) -> int:
    """Cross-fitting needs two documents a fold, so that what is left out is never one document."""
    return 2 * folds
