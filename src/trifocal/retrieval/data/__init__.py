"""The data of retrieval: readers of the field's files and of the user's own, a check of them, and batches.

In order of reading: `captions` (what every reader ends in), `annotations` (the field's text files), `features` with
`bigfile` and `hdf5` (rows by id), `collection` (a data set), `presets` (the field's sets by name), `own` (a folder of
videos and a table), `two_annotations` with `lsa` and `sentences` (a set without videos), `check` (what is wrong), and
`batches` (for training; it brings torch, so it is imported by its own name).
"""

from __future__ import annotations

from trifocal.retrieval.data.annotations import (
    read_activitynet,
    read_caption_txt,
    read_charades,
    read_qvhighlights,
    read_tvr,
    write_activitynet,
    write_caption_txt,
    write_charades,
    write_qvhighlights,
    write_tvr,
)
from trifocal.retrieval.data.bigfile import BigFileRows, write_bigfile
from trifocal.retrieval.data.captions import Caption, CaptionSet
from trifocal.retrieval.data.check import DataReport, SplitReport, check_data
from trifocal.retrieval.data.collection import RetrievalData
from trifocal.retrieval.data.features import ArrayRows, FolderRows, RowSource
from trifocal.retrieval.data.hdf5 import Hdf5Rows, write_hdf5
from trifocal.retrieval.data.own import (
    encode_words,
    extract_features,
    files_of,
    read_own,
    with_durations,
    write_own_csv,
)
from trifocal.retrieval.data.presets import FIELD_PRESETS, FieldPreset, open_field, open_layout
from trifocal.retrieval.data.sentences import KeptSentences
from trifocal.retrieval.data.two_annotations import read_two_annotations

__all__ = [
    "FIELD_PRESETS",
    "ArrayRows",
    "BigFileRows",
    "Caption",
    "CaptionSet",
    "DataReport",
    "FieldPreset",
    "FolderRows",
    "Hdf5Rows",
    "KeptSentences",
    "RetrievalData",
    "RowSource",
    "SplitReport",
    "check_data",
    "encode_words",
    "extract_features",
    "files_of",
    "open_field",
    "open_layout",
    "read_activitynet",
    "read_caption_txt",
    "read_charades",
    "read_own",
    "read_qvhighlights",
    "read_tvr",
    "read_two_annotations",
    "with_durations",
    "write_activitynet",
    "write_bigfile",
    "write_caption_txt",
    "write_charades",
    "write_hdf5",
    "write_own_csv",
    "write_qvhighlights",
    "write_tvr",
]
