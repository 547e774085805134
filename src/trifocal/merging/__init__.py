"""Token merging for video: tensors in, tensors out, no model in sight."""

from trifocal.merging.calibrate import Calibration, calibrate
from trifocal.merging.config import MergeConfig
from trifocal.merging.dycoke import DycokeConfig
from trifocal.merging.evs import EvsConfig
from trifocal.merging.fastv import FastvConfig, fastv
from trifocal.merging.frames import RandomConfig, UniformConfig
from trifocal.merging.methods import METHODS, QUERY_AWARE, configure, merge, sttm
from trifocal.merging.octree import OctreeConfig
from trifocal.merging.picture import draw
from trifocal.merging.pyramid import PyramidConfig
from trifocal.merging.result import MergedTokens
from trifocal.merging.sttm import SttmConfig
from trifocal.merging.tome import TomeConfig

__all__ = [
    "METHODS",
    "QUERY_AWARE",
    "Calibration",
    "DycokeConfig",
    "EvsConfig",
    "FastvConfig",
    "MergeConfig",
    "MergedTokens",
    "OctreeConfig",
    "PyramidConfig",
    "RandomConfig",
    "SttmConfig",
    "TomeConfig",
    "UniformConfig",
    "calibrate",
    "configure",
    "draw",
    "fastv",
    "merge",
    "sttm",
]
