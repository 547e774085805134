"""The benchmark of the store runs on a size that takes no time, and its recall is against the exact search."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trifocal.bench import store
from trifocal.bench.vectors import Drawn, clustered_queries, clustered_videos
from trifocal.retrieval import IndexItem


def test_the_vectors_are_drawn_alike_and_clustered() -> None:
    first, again = (list(clustered_videos(300, seed=1)) for _ in "ab")
    assert [item.video for item in first] == sorted(item.video for item in first)
    assert all((a.prototypes.vectors == b.prototypes.vectors).all() for a, b in zip(first, again, strict=True))
    rows = first[0].prototypes.vectors.astype(np.float32)
    inside = np.sort((rows @ rows.T)[np.triu_indices(32, 1)])
    assert inside[-50] > 0.4  # of one topic
    assert inside[50] < 0.3  # of several
    queries = clustered_queries(20, videos=300, seed=1)
    assert queries.shape == (20, 384)
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)


def test_it_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("lancedb")
    out = tmp_path / "r.json"
    words = ["--videos", "60", "--queries", "4", "--shares", "1.0", "--out", str(out)]
    words += ["--scratch", str(tmp_path / "scratch")]
    store.main(words)
    rows = json.loads(out.read_text())["rows"]
    searches = [row for row in rows if "p50_ms" in row]
    assert len(searches) == 6
    for row in searches:
        assert (row["prototypes"], row["partitions"], row["recall_at_10"]) == (60 * 32, None, 1)
        assert 0 < row["p50_ms"] <= row["p95_ms"]
    (erased,) = [row for row in rows if "erase_s" in row]
    assert erased["erased"] == 10
    assert capsys.readouterr().out.count("\n") == 7
    kept = [row for row in rows if row["way"] != "flat"]  # as if the run had been cut
    out.write_text(json.dumps({**json.loads(out.read_text()), "rows": kept}))
    store.main(words)
    assert capsys.readouterr().out.count("\n") == 1
    assert len(json.loads(out.read_text())["rows"]) == 7
    old = json.loads(out.read_text())["rows"]
    named = ["folder of a tenth", "named tenth"]
    store.main([*words, "--again", *named])
    assert [json.loads(line)["way"] for line in capsys.readouterr().out.splitlines()] == named
    again = json.loads(out.read_text())["rows"]
    assert [row["way"] for row, new in zip(old, again, strict=True) if row != new] == named
    with pytest.raises(SystemExit):
        store.main([*words, "--again", "probes 3"])
    assert "--again probes 3: the ways are flat, probes 1, folder of a tenth" in capsys.readouterr().err
    store.main(["--table", "--out", str(out)])
    assert "| 60 | IVF_RQ, 1 probes, refine 2 |" in capsys.readouterr().out


def test_drawing_is_no_part_of_what_is_measured() -> None:
    def slow() -> Iterator[IndexItem]:
        for item in clustered_videos(3):
            time.sleep(0.02)
            yield item

    items = Drawn(slow())
    assert len(list(items)) == 3
    assert items.seconds >= 0.06
