"""Run every golden file below a folder against this package: `python runs/check_goldens.py FOLDER`.

One line per case, and an exit code of 1 if any failed. What a file holds is told by its name (see the README beside the
files); `trifocal.bench.goldens` is the table of checkers, one entry per kind.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from trifocal.bench.goldens import check, files


def main(arguments: list[str]) -> int:
    """Check the folder that is named and print a line per case."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python runs/check_goldens.py FOLDER", file=sys.stderr)
        return 2
    results: Counter[str] = Counter()
    for path in files(Path(arguments[0])):
        for case in check(path):
            if case.wrong is None:
                verdict, text = "not checked", f"not checked: {case.note}"
            elif case.wrong:
                verdict, text = "failed", f"FAILED: {', '.join(case.wrong)}"
            else:
                verdict, text = "ok", f"ok ({case.note})"
            results[verdict] += 1
            print(f"{path.parent.name}/{case.name}: {text}", flush=True)
    print(f"{results['ok']} ok, {results['failed']} failed, {results['not checked']} not checked")
    if not results["ok"] and not results["failed"]:
        print("nothing was checked", file=sys.stderr)
        return 1
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
