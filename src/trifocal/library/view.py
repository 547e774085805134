"""Searching and asking a library; safe from several threads and beside a writer.

`LibraryView` adds to what is listed (`Holdings`) the verbs that look for something and change nothing; `LibraryUpkeep`
and `Library` add those that write. The chat model is loaded when it is first needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.library import contents, tubes
from trifocal.library.acting import acting_moments, by_video, kept_acting
from trifocal.library.holdings import Holdings
from trifocal.library.lookup import resolved
from trifocal.library.opening import check_count
from trifocal.library.query import Query, encode_query
from trifocal.library.sharpen import sharpened

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from trifocal.chat import Answer, VideoChat
    from trifocal.library.records import ActionSpan
    from trifocal.retrieval import Moment, VideoFilter

__all__ = ["LibraryView"]


class LibraryView(Holdings):
    """An open library, as far as it is read; see `Library`."""

    def find(
        self,
        text: str | Query,
        *,
        top: int = 10,
        moments_per_video: int = 1,
        videos: Iterable[str | os.PathLike[str]] | None = None,
        where: VideoFilter | None = None,
        include_missing: bool = False,
        actions: Iterable[str] | None = None,
        least_score: float = 0.5,
    ) -> list[Moment]:
        """The moments that match a text best, or a `Query` of texts, pictures and clips.

        Where the library keeps clip tokens, the times of a moment are those of the frames that stand out.

        Args:
            text: what is looked for.
            top: how many moments at most.
            moments_per_video: how many of them from one video.
            videos: look in these alone: ids, starts of ids, or paths.
            where: of these, look in those with a file that it admits: by folder, by date of last change, by length.
            include_missing: also in videos whose files are gone; `status().missing` says how many are left out.
            actions: only moments that share time with a stored tube in which somebody does one of these (`detect`);
                `unseen(actions)` says in which videos nobody has looked for them.
            least_score: an action is going on while its score is at least this.

        Returns:
            By falling score; ties by video id, then start. Empty when there is no video to look in.

        Raises:
            InvalidInput: the text is empty or not Unicode, a picture cannot be read, a count is below 1, or no detector
                that looked at the library knows an action.
            VideoError: a clip to look for cannot be read.
            NotInLibrary: one of `videos` is not in the library.
            LibraryDamaged: stored prototypes are missing or damaged.
            EncoderMismatch: the library was indexed again by another encoder since it was opened.
        """
        return self.find_many(
            [text],
            top=top,
            moments_per_video=moments_per_video,
            videos=videos,
            where=where,
            include_missing=include_missing,
            actions=actions,
            least_score=least_score,
        )[0]

    def find_many(
        self,
        queries: Sequence[str | Query],
        *,
        top: int = 10,
        moments_per_video: int = 1,
        videos: Iterable[str | os.PathLike[str]] | None = None,
        where: VideoFilter | None = None,
        include_missing: bool = False,
        actions: Iterable[str] | None = None,
        least_score: float = 0.5,
    ) -> list[list[Moment]]:
        """`find` for each of several queries, with one reading of the index for all of them."""
        asked = [query if isinstance(query, Query) else Query(texts=(query,)) for query in queries]
        check_count("top", top)
        check_count("moments_per_video", moments_per_video)
        spans = None if actions is None else by_video(self._spans(actions, least_score=least_score))
        index, hidden = self._search.index()
        chosen, without = self._chosen(hidden, videos=videos, where=where, include_missing=include_missing)
        if spans is not None:
            chosen = spans.keys() - without if chosen is None else chosen & spans.keys()
        if chosen == set() or not asked or self._holds_nothing():
            return [[] for _ in asked]
        vectors = np.stack([self.query_vector(query) for query in asked])  # (Nq, D)
        if spans is not None and chosen is not None:
            most = max(self._most_prototypes(), 1)
            found = [
                acting_moments(
                    index, vector, top=top, moments_per_video=moments_per_video, videos=chosen, spans=spans, most=most
                )
                for vector in vectors
            ]
        elif len(vectors) == 1:
            found = [
                index.search(vectors[0], top=top, moments_per_video=moments_per_video, videos=chosen, without=without)
            ]
        else:
            found = index.search_many(
                vectors, top=top, moments_per_video=moments_per_video, videos=chosen, without=without
            )
        if self.settings.clip_tokens != "none":
            placed = [
                sharpened(moments, vector, read=self._tokens) for moments, vector in zip(found, vectors, strict=True)
            ]
            if spans is not None:
                placed = [kept_acting(new, old, spans) for new, old in zip(placed, found, strict=True)]
            found = placed
        return found

    def find_actions(
        self,
        actions: str | Iterable[str],
        *,
        least_score: float = 0.5,
        top: int = 10,
        spans_per_video: int | None = None,
        videos: Iterable[str | os.PathLike[str]] | None = None,
        where: VideoFilter | None = None,
        include_missing: bool = False,
    ) -> list[ActionSpan]:
        """The stretches in which somebody does one of the actions, as stored tubes have them (`detect`).

        Args:
            actions: names, of which any will do; capitals do not matter.
            least_score: an action is going on while its score is at least this.
            top: how many at most.
            spans_per_video: how many of them from one video; None for all.
            videos: see `find`.
            where: see `find`.
            include_missing: see `find`.

        Returns:
            By falling mean score; ties by video id, then start.

        Raises:
            InvalidInput: no detector that looked at the library knows an action, or a number out of range.
            NotInLibrary: one of `videos` is not in the library.
            LibraryDamaged: stored tubes are damaged.
        """
        check_count("top", top)
        if spans_per_video is not None:
            check_count("spans_per_video", spans_per_video)
        found = self._spans(actions, least_score=least_score)
        with self._catalogue.read() as connection:
            hidden = contents.hidden_videos(connection)
        chosen, without = self._chosen(hidden, videos=videos, where=where, include_missing=include_missing)
        kept: list[ActionSpan] = []
        counts: dict[str, int] = {}
        for span in found:
            looked_in = span.video not in without if chosen is None else span.video in chosen
            if looked_in and (spans_per_video is None or counts.get(span.video, 0) < spans_per_video):
                counts[span.video] = counts.get(span.video, 0) + 1
                kept.append(span)
        return kept[:top]

    def query_vector(self, query: str | Query) -> NDArray[np.float32]:
        """What `find` looks for: a unit vector (D,) of the library's encoder; see `find` for the errors."""
        return encode_query(
            query if isinstance(query, Query) else Query(texts=(query,)),
            encoder=self.encoder(),
            reader=self._reader,
            limits=self._limits,
            settings=self.settings,
        )

    def ask(self, video: str | os.PathLike[str], question: str, **options: Any) -> Answer:
        """Ask something about a video.

        Args:
            video: an id, the start of one, or the path of one of its files.
            question: in words.
            options: passed on to `VideoChat.ask`.

        Returns:
            The answer; its `video` is the id.

        Raises:
            NotInLibrary: no such video.
            VideoNotFound: none of its files is there.
        """
        record = self.video(video)
        path = self.source(record.id)
        answer = self._chat_model().ask(path, question, limits=self._limits, **options)
        return replace(answer, video=record.id)

    def _chat_model(self) -> VideoChat:
        with self._loading:
            if isinstance(self._chat, str):
                from trifocal.chat import load_chat  # brings torch; only who asks pays for it

                self._chat = load_chat(self._chat, device=self._device)
            return self._chat

    def _chosen(
        self,
        hidden: Collection[str],
        *,
        videos: Iterable[str | os.PathLike[str]] | None,
        where: VideoFilter | None,
        include_missing: bool,
    ) -> tuple[set[str] | None, frozenset[str]]:
        """Which videos are looked in, None for all, and then which are not.

        The catalogue decides what a filter admits, not the facts in the index: a video may have several files, and
        files move without their video changing.
        """
        without = frozenset() if include_missing else frozenset(hidden)
        chosen = None if videos is None else {self._id(name) for name in videos}
        if where is not None and where.folder is not None:
            where = replace(where, folder=resolved(where.folder))
        if where is not None and not where.empty:
            with self._catalogue.read() as connection:
                admitted = contents.admitted_videos(connection, where)
            chosen = admitted if chosen is None else chosen & admitted
        return (None, without) if chosen is None else (chosen - without, frozenset())

    def _spans(self, actions: Iterable[str], *, least_score: float) -> list[ActionSpan]:
        if not 0.0 <= least_score <= 1.0:
            raise InvalidInput(f"least_score is {least_score}", remedy="Give a number between 0 and 1.")
        with self._catalogue.read() as connection:
            known = tubes.resolved_actions(connection, [actions] if isinstance(actions, str) else actions)
            return tubes.action_spans(connection, known, least_score=least_score)
