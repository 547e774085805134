"""The losses of the trained retriever, one small file each with its equation; none knows the model.

`infonce` and `triplet` rank videos, `crecon` rebuilds masked words, `urecon` rebuilds the video, `guidance` turns
attention to the right one of two mixed videos, `ortho` keeps prototypes apart, `balance` evens out who wins. `gather`
brings together what several processes rank.
"""

from __future__ import annotations

from trifocal.retrieval.losses.balance import winner_balance
from trifocal.retrieval.losses.crecon import mask_words, masked_word_loss, same_words
from trifocal.retrieval.losses.gather import gather_rows
from trifocal.retrieval.losses.guidance import attention_guidance, partners
from trifocal.retrieval.losses.infonce import info_nce, positives
from trifocal.retrieval.losses.ortho import orthogonality
from trifocal.retrieval.losses.triplet import triplet
from trifocal.retrieval.losses.urecon import video_reconstruction

__all__ = [
    "attention_guidance",
    "gather_rows",
    "info_nce",
    "mask_words",
    "masked_word_loss",
    "orthogonality",
    "partners",
    "positives",
    "same_words",
    "triplet",
    "video_reconstruction",
    "winner_balance",
]
