"""The demo: a small collection of real and generated videos, searched and asked, with a page to look at.

`make demo` runs it. It fetches the pinned model files once, puts the sample clips and a dozen playground videos into a
library, finds moments for a few queries, answers a question, and leaves `index.html` in the output folder. Everything
it does is also a command, printed before each step.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from trifocal import playground, weights
from trifocal.chat import load_chat
from trifocal.cli.add import add_progress, open_or_create, print_report
from trifocal.cli.find import print_moments, sections
from trifocal.cli.page import AnswerCard, write_page
from trifocal.cli.progress import count_progress

MODEL_FILES = ("sample-clips", "efficientnet-lite0", "imagenet-classes", "minilm-l6-v2", "smollm2-135m")

# The themes of the generated videos, in order; their files are named after them.
THEMES = (
    "ball game in the gym",
    "bus on the street",
    "cars at night",
    "cat at home",
    "cows in the meadow",
    "cyclist",
    "dancing",
    "dog in the park",
    "exercise in the gym",
    "horse riding",
    "kitchen talk",
    "people at the beach",
)
# What is looked for, and the video that shows it: first three real ones, then generated ones.
QUERIES = {
    "a cartoon rabbit in the grass": "bigbuckbunny.mp4",
    "a man with a bow tie in a car": "carphone_pristine.mp4",
    "cars and bicycles in a street": "bikes.mp4",
    "a bus on the street": "001-bus-on-the-street.mp4",
    "a person riding a bicycle": "005-cyclist.mp4",
}
QUESTION = ("bikes.mp4", "What is shown in this video?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the videos, the library and the page go")
    out = parser.parse_args().out
    started = time.monotonic()

    say("Fetching model files (once)", "trifocal weights fetch")
    folders = {name: weights.fetch(name) for name in MODEL_FILES}

    videos = out / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    for clip in sorted(folders["sample-clips"].glob("*.mp4")):
        shutil.copyfile(clip, videos / clip.name)
    generated = videos / "playground"
    say(f"Making {len(THEMES)} playground videos", f"trifocal playground make {generated} --seed 7 --size 240 426 ...")
    with count_progress("videos", "made") as made:
        playground.make_collection(
            generated,
            count=len(THEMES),
            seed=7,
            size=(240, 426),
            duration_s=(10, 14),
            themes=THEMES,
            progress=lambda done, total, _: made(done, total),
        )

    say("Adding them to a library", f"trifocal add {videos} --library {out}/library")
    folder = out / "library"
    with open_or_create(folder, encoder=None) as library:
        with add_progress(quiet=False) as added:
            report = library.add(videos, progress=added)
        print_report(report, folder)

        say("Finding moments", f'trifocal find "..." --library {out}/library')
        found = {query: library.find(query, top=4) for query in QUERIES}
        records = {record.id: record for record in library.videos()}
        for query, moments in found.items():
            print_moments(query, moments, records)

        name, question = QUESTION
        say("Asking a question", f'trifocal ask {videos / name} "{question}"')
        answer = load_chat().ask(videos / name, question)
        print(answer.text)
        print(f"({answer.caveat})")
        asked = library.video(videos / name)
        evidence = tuple((frame.time_s, library.thumbnail(asked.id, at_s=frame.time_s)) for frame in answer.evidence)

        took = time.monotonic() - started
        page = write_page(
            out / "index.html",
            title="Trifocal demo",
            queries=tuple(sections(library, found, clips=out / "index_files")),
            answers=(
                AnswerCard(title=name, question=question, text=answer.text, caveat=answer.caveat, evidence=evidence),
            ),
            footer=f"{len(records)} videos; the whole demo took {took:.0f} s on this machine.",
        )
    names = {query: [Path(records[moment.video].paths[0]).name for moment in found[query]] for query in QUERIES}
    top = sum(names[query][:1] == [clip] for query, clip in QUERIES.items())
    print(f"\n{top} of {len(QUERIES)} queries have the right video on top.")
    print(f"\nDone in {took:.0f} s. Open {page} in a browser.")


def say(what: str, command: str) -> None:
    print(f"\n== {what}\n$ {command}", flush=True)


if __name__ == "__main__":
    main()
