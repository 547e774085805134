"""Label files: which format a file has, reading any of them, writing those that others read.

`read_labels` looks at the file's ending and, for JSON, at its keys. `FORMATS` names what there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from trifocal.action.data.formats.ava import read_ava_csv, read_ava_json, read_excluded, write_ava_csv
from trifocal.action.data.formats.coco import read_coco, write_coco
from trifocal.action.data.formats.cvat import ATTRIBUTES, read_cvat
from trifocal.action.data.formats.cvat_writer import write_cvat
from trifocal.action.data.formats.label_maps import label_map_beside, read_label_map
from trifocal.action.data.formats.losses import losses
from trifocal.action.data.formats.native import FORMAT, read_native, write_native
from trifocal.action.data.formats.rows import read_json
from trifocal.action.data.formats.tube_truth import read_tube_truth
from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trifocal.action.labels import Labels

__all__ = ["FORMATS", "LabelFormat", "guess_format", "losses", "read_label_map", "read_labels", "write_labels"]

LabelFormat = Literal["trifocal", "ava", "ava-json", "cvat", "coco", "tubes"]

FORMATS: Mapping[str, str] = {
    "trifocal": "the project's own JSON, which keeps everything",
    "ava": "AVA csv: a row per box and action, corners in parts of the frame",
    "ava-json": "the JSON of boxes by key frame that the published loader reads",
    "cvat": "CVAT for video 1.1 XML: tracks with an attribute for the action",
    "coco": "COCO-style video JSON with track ids; categories are actions",
    "tubes": "ground-truth pickle of JHMDB, UCF101-24 or MultiSports",
}
"""What each format is."""

_BY_SUFFIX: Mapping[str, LabelFormat] = {".csv": "ava", ".xml": "cvat", ".pkl": "tubes"}


def guess_format(path: Path) -> LabelFormat:
    """The format of a label file, by its ending and its keys.

    Raises:
        InvalidInput: none fits.
    """
    suffix = path.suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if suffix == ".json":
        value = read_json(path)
        keys = set(value) if isinstance(value, dict) else set()
        if isinstance(value, dict) and value.get("format") == FORMAT:
            return "trifocal"
        if {"images", "annotations"} <= keys:
            return "coco"
        if "video_frame_bbox" in keys or (keys and all("," in key for key in keys)):
            return "ava-json"
    raise InvalidInput(
        f"{path.name} is of no label format that can be told", remedy=f"Name it: {', '.join(get_args(LabelFormat))}."
    )


def read_labels(
    path: Path,
    *,
    kind: LabelFormat | None = None,
    label_map: Path | None = None,
    excluded: Path | None = None,
    rate: float | None = None,
    attributes: Sequence[str] = ATTRIBUTES,
) -> Labels:
    """Read labels.

    Args:
        path: the file; for `cvat` also a folder of XML files, one per video.
        kind: the format; None tells it from the file.
        label_map: names of the classes (pbtxt or JSON); needed only where the file has none, or for a choice of them.
            An AVA csv takes the pbtxt of its own name beside it where none is given.
        excluded: csv of seconds to leave out (AVA).
        rate: frames per second where the file does not tell; where nobody tells it is taken for 25, until
            `Labels.timed` says what the videos have.
        attributes: CVAT attributes that hold actions.

    Raises:
        InvalidInput: the file is wrong; the message names the line or the element.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, kind, label_map, rate, attributes)
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}", remedy="Give the path of a label file.")
    found = kind or guess_format(path)
    if label_map is None and found == "ava" and label_map_beside(path).is_file():
        label_map = label_map_beside(path)
    classes = read_label_map(label_map) if label_map is not None else None
    if tuple(attributes) != ATTRIBUTES and found != "cvat":
        raise InvalidInput(f"names of attributes are given for {found}", remedy="Only CVAT has attributes.")
    if excluded is not None and found != "ava":
        raise InvalidInput(f"excluded seconds are given for {found}", remedy="Only AVA csv takes them.")
    if found == "ava":
        return read_ava_csv(path, classes=classes, excluded=read_excluded(excluded) if excluded else None, rate=rate)
    if found == "ava-json":
        return read_ava_json(path, classes=classes)
    if found == "cvat":
        return read_cvat(path, classes=classes, rate=rate, attributes=attributes)
    if found == "coco":
        return read_coco(path, classes=classes, rate=rate)
    if found == "tubes":
        return read_tube_truth(path, rate=rate)
    if found == "trifocal":
        return read_native(path)
    raise InvalidInput(f"the format is {found!r}", remedy=f"Give one of {', '.join(get_args(LabelFormat))}.")


def _read_folder(
    folder: Path, kind: str | None, label_map: Path | None, rate: float | None, attributes: Sequence[str]
) -> Labels:
    from trifocal.action.labels import Labels

    files = sorted(folder.glob("*.xml"))
    if not files or kind not in (None, "cvat"):
        raise InvalidInput(f"{folder} is a folder without CVAT files", remedy="Give a label file.")
    classes = read_label_map(label_map) if label_map is not None else None
    if classes is None:
        from trifocal.action.labels import LabelMap

        parts = [read_cvat(file, rate=rate, attributes=attributes) for file in files]
        every = {name for part in parts for name in part.classes.names}
        whole = [part.classes for part in parts if set(part.classes.names) == every]
        classes = whole[0] if whole else LabelMap.of(sorted(every))
    parts = [read_cvat(file, classes=classes, rate=rate, attributes=attributes) for file in files]
    made: dict[str, str] = {}
    for file, part in zip(files, parts, strict=True):
        for one in part.videos:
            if one.video in made:
                raise InvalidInput(
                    f"{file.name} and {made[one.video]} are both of the video {one.video!r}", remedy="Keep one of them."
                )
            made[one.video] = file.name
    return Labels(classes, tuple(one for part in parts for one in part.videos))


def write_labels(labels: Labels, path: Path, *, kind: LabelFormat) -> tuple[Path, ...]:
    """Write labels; `losses` says what a format cannot hold of them.

    Args:
        labels: boxes in pixels for `cvat` and `coco`.
        path: a file; for `cvat` a folder, which gets one XML per video, or for one video a name that ends in `.xml`.
        kind: the format: `trifocal`, `ava`, `cvat` or `coco`.

    Returns:
        The files that were written: for `ava` the csv and its label map.

    Raises:
        InvalidInput: nothing writes that format, the size of a picture is unknown, a box ends before it begins, or the
            path cannot be written.
    """
    path = Path(path)
    for one in labels.videos:
        if (turned := (one.boxes_xyxy[:, 2:] < one.boxes_xyxy[:, :2]).any(axis=1)).any():
            raise InvalidInput(
                f"{one.video} has a box in frame {one.indices[turned][0]} that ends before it begins",
                remedy="Exchange its corners.",
            )
    try:
        if kind == "trifocal":
            write_native(labels, path)
            return (path,)
        if kind == "ava":
            return write_ava_csv(labels, path)
        if kind == "coco":
            write_coco(labels, path)
            return (path,)
        if kind == "cvat":
            return _write_cvat(labels, path)
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be written: {error.strerror or error}", remedy="Give another path."
        ) from error
    raise InvalidInput(f"the format {kind!r} is not written", remedy="Give trifocal, ava, cvat or coco.")


def _write_cvat(labels: Labels, path: Path) -> tuple[Path, ...]:
    if path.suffix.lower() == ".xml":
        if len(labels) != 1:
            raise InvalidInput(
                f"there are {len(labels)} videos, and {path.name} is the name of one file",
                remedy="Give the name of a folder, which gets a file for each video.",
            )
        files = {path: labels.videos[0]}
    else:
        files = {path / f"{one.video.replace('/', '_')}.xml": one for one in labels.videos}
        if len(files) != len(labels):
            raise InvalidInput("two videos would have the same file name", remedy="Write them into two folders.")
        path.mkdir(parents=True, exist_ok=True)
    for file, one in files.items():
        write_cvat(one, file, classes=labels.classes)
    return tuple(files)
