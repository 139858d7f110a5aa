"""One spool's way into a workspace: batch by batch, each from where the workspace has come to."""

from __future__ import annotations

from pathlib import Path

from loopwright.core import Conflict, Corrupt, Forbidden, Invalid, NotFound
from loopwright.track.spool.contract import SpoolTarget, Watcher
from loopwright.track.spool.folders import FILES
from loopwright.track.spool.notes import FileKept, Refusal, SpoolBatch
from loopwright.track.spool.reader import SegmentReader
from loopwright.track.spool.segments import segment_path, segments_in
from loopwright.track.spool.writer import Place

_FOR_GOOD = (Invalid, NotFound, Conflict, Forbidden)


class Delivery:
    """How far one spool's delivery has come.

    points, damaged: how many points were delivered; how many slots held bytes of no whole record.
    refused: what the workspace cannot keep, and nobody was told yet.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        """Args:
        folder: the spool's.
        fresh: this process began the spool, and the workspace knows nothing of it yet.
        """
        self.folder, self.fresh = folder, fresh
        self.points = self.damaged = 0
        self.refused: list[Refusal] = []
        self._reader: SegmentReader | None = None

    def advance(
        self, target: SpoolTarget, place: Place | None = None, *, alive: bool, watcher: Watcher | None = None
    ) -> None:
        """Deliver what is there.

        Args:
            place: how far the writer has come; by default as far as there are records.
            alive: the spool's writer lives, so that the last segment goes on and stays.

        Raises:
            LoopwrightError, OSError: the workspace cannot take it now.
        """
        watcher = watcher or Watcher()
        numbers = [number for number in segments_in(self.folder) if place is None or number <= place.segment]
        for number in numbers:
            goes_on = alive and number == numbers[-1]
            self._segment(target, number, place.at if place and goes_on else None, goes_on, watcher)
            if not goes_on:
                segment_path(self.folder, number).unlink(missing_ok=True)
                watcher.segment_done(number)

    def _segment(self, target: SpoolTarget, number: int, end: int | None, patient: bool, watcher: Watcher) -> None:
        reader = self._reader
        if reader is None or reader.segment != number:
            reader = SegmentReader(self.folder, number)
            if not self.fresh:
                reader.seek(target.deliver(SpoolBatch(reader.spool, number, 0, 0)).position)
            self._reader = reader
        damaged, moved = reader.damaged, True
        while moved:
            moved = False
            for batch in reader.batches(end, patient=patient):
                watcher.seen(batch)
                at = self._batch(target, batch, watcher)
                if at != batch.end:
                    self._go_to(reader, batch, at)
                    moved = True
                    break
        self.damaged += reader.damaged - damaged

    def _go_to(self, reader: SegmentReader, batch: SpoolBatch, at: int) -> None:
        """Go on where the workspace has come to, since it is not where we are: another process delivered, too."""
        if at == batch.start:
            raise Corrupt(f"the workspace took nothing of bytes {batch.start} to {batch.end} of spool {batch.spool}")
        reader.seek(at)

    def _batch(self, target: SpoolTarget, batch: SpoolBatch, watcher: Watcher) -> int:
        """Deliver one batch; where the workspace has come to."""
        files = [note for note in batch.notes if isinstance(note, FileKept)]
        for note in files:
            self._keep_file(target, note)
        outcome = target.deliver(batch)
        if outcome.position == batch.end:
            self.points += sum(len(item.steps) // 8 for item in batch.points)
            self.refused += outcome.refused
            for note in files:
                (self.folder / FILES / note.file).unlink(missing_ok=True)
                watcher.file_done(note.size_bytes)
        return outcome.position

    def _keep_file(self, target: SpoolTarget, note: FileKept) -> None:
        file = self.folder / FILES / note.file
        try:
            if not file.exists():
                raise NotFound("its bytes are gone from the spool")
            target.keep_file(note, file)
        except _FOR_GOOD as error:
            self.refused.append(Refusal(note.run, f"the artifact {note.path!r}", str(error)))
