"""Prefixes: a video that a language model has read once, kept for any number of questions.

In order of reading: `key` (when two prefixes are the same), `entry` (what is kept, and how a question forks it),
`quantise` (int8 keys and values), `disk` (safetensors files that are verified on read), `store` (the two levels
together). Knows no model: a prefix is keys, values, and what their owner wants to find again beside them.
"""

from __future__ import annotations

from trifocal.chat.prefix.disk import DiskLevel
from trifocal.chat.prefix.entry import PrefixEntry
from trifocal.chat.prefix.key import PrefixKey, frames_id
from trifocal.chat.prefix.quantise import QuantisedEntry, dequantise, quantise
from trifocal.chat.prefix.store import PrefixStore, StoreStats

__all__ = [
    "DiskLevel",
    "PrefixEntry",
    "PrefixKey",
    "PrefixStore",
    "QuantisedEntry",
    "StoreStats",
    "dequantise",
    "frames_id",
    "quantise",
]
