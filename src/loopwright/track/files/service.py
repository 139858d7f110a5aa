"""What one can ask of the files that hang on runs, logged models and traces."""

from __future__ import annotations

from typing import BinaryIO

from loopwright.core import Scope, check_path, operation
from loopwright.store import Readable, Stores, Tree, TreeEntry, put_tree_manifest
from loopwright.track.files import uploads
from loopwright.track.files.model import Entry, Part, Upload, parse_owner
from loopwright.track.files.shelves import drop_files, entries_of, files_of, find_shelf, put_file, the_file
from loopwright.track.model import Artifact


class ArtifactService:
    """Files of one project. An owner is `run:<id>`, `model:m-<id>` (a logged model) or `trace:tr-<id>`.

    Nobody names a place: a file is found by its owner and its path, and its bytes by their digest. A file is there,
    whole and durable, when the method returns, and not at all before that.
    """

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("artifacts.list", permission="runs:read")
    def list(self, owner: str, folder: str = "") -> list[Entry]:
        """What lies straight in a folder of an owner, by path; empty for a folder that is not there.

        Raises:
            NotFound: there is no such owner.
            Invalid: the owner or the folder is malformed.
        """
        if folder:
            check_path(folder)
        with self.stores.db.read() as connection:
            shelf = find_shelf(connection, self.scope.project, parse_owner(owner))
            return entries_of(self.stores.db, connection, shelf, folder)

    @operation("artifacts.stat", permission="runs:read")
    def stat(self, owner: str, path: str) -> Artifact:
        """One file's size and digest.

        Raises:
            NotFound: there is no such owner or file.
            Invalid: the owner or the path is malformed.
        """
        check_path(path)
        with self.stores.db.read() as connection:
            return the_file(connection, find_shelf(connection, self.scope.project, parse_owner(owner)), path)

    @operation("artifacts.delete", permission="runs:write", effect="write")
    def delete(self, owner: str, path: str = "") -> int:
        """Forget a file, or all below a folder, or all of an owner's; how many. What a model version holds of it
        stays with the version.

        Raises:
            NotFound: there is no such owner.
            Conflict: the owner is deleted.
            Invalid: the owner or the path is malformed.
        """
        if path:
            check_path(path)
        with self.stores.db.begin() as tx:
            return drop_files(tx, find_shelf(tx, self.scope.project, parse_owner(owner), for_change=True), path)

    def open(self, owner: str, path: str) -> tuple[Artifact, BinaryIO]:
        """One file as a stream, which the caller closes. Raises as `stat` does."""
        found = self.stat(owner, path)
        return found, self.stores.objects.open(found.digest)

    def store(self, owner: str, path: str, stream: Readable) -> Artifact:
        """Keep what is left in a stream as an owner's file, in constant memory; one at the same path is replaced.

        Raises:
            NotFound: there is no such owner.
            Conflict: the owner is deleted, or a part of the path is a file.
            Invalid: the owner or the path is malformed.
            Unavailable: the disk is full.
        """
        self.check(owner, path)
        digest = self.stores.objects.put_stream(stream)
        return self._keep(owner, path, digest)

    def check(self, owner: str, path: str) -> None:
        """Refuse what `store` would refuse, before the first byte is read. Raises as it does."""
        check_path(path)
        with self.stores.db.read() as connection:
            find_shelf(connection, self.scope.project, parse_owner(owner), for_change=True)

    def tree(self, owner: str, folder: str) -> tuple[str, int]:
        """A folder of an owner as it is now, for good: the digest of a tree in the object store, and its size in bytes.

        A folder without a file, or that is not there, has no digest and no size.

        Raises:
            NotFound: there is no such owner.
            Invalid: the folder is malformed, or has a path that is a file and a folder at once.
        """
        if folder:
            check_path(folder)
        with self.stores.db.read() as connection:
            shelf = find_shelf(connection, self.scope.project, parse_owner(owner))
            files = files_of(connection, shelf, folder)
        if not files:
            return "", 0
        start = len(folder) + 1 if folder else 0
        tree = Tree(tuple(TreeEntry(item.path[start:], item.digest, item.size_bytes) for item in files))
        return put_tree_manifest(self.stores.objects, tree), tree.size_bytes

    def begin(self, owner: str, path: str, parts: int) -> Upload:
        """Begin to upload a file in parts. Those who know the reply's `secret` may put parts; it is told only here.

        Raises:
            NotFound: there is no such owner.
            Conflict: the owner is deleted.
            Invalid: the owner or the path is malformed, or there are no parts, or more than 10,000.
        """
        self.check(owner, path)
        with self.stores.db.begin() as tx:
            return uploads.begin(self.stores, tx, self.scope, owner, path, parts)

    def check_part(self, upload: str, secret: str, number: int) -> None:
        """Refuse what `put_part` would refuse, before the first byte is read. Raises as it does."""
        with self.stores.db.read() as connection:
            uploads.check_part(connection, upload, secret, number)

    def put_part(self, upload: str, secret: str, number: int, stream: Readable) -> Part:
        """Keep one part of an upload, in constant memory; one of the same number is replaced.

        Raises:
            NotFound: there is no such upload, or the secret is not its own.
            Invalid: it has no part of that number.
        """
        self.check_part(upload, secret, number)
        digest = self.stores.objects.put_stream(stream)
        size = self.stores.objects.stat(digest).size_bytes
        with self.stores.db.begin() as tx:
            uploads.check_part(tx, upload, secret, number)
            uploads.keep_part(self.stores.db, tx, upload, number, digest, size)
        return Part(number, digest)

    def complete(self, owner: str, path: str, upload: str, parts: tuple[Part, ...]) -> Artifact:
        """Make one file of the parts of an upload, in constant memory.

        Raises:
            NotFound: there is no such upload of this file.
            Conflict: a part is missing or another than was named.
        """
        with self.stores.db.read() as connection:
            digests = uploads.ready_parts(connection, self.scope.project, owner, path, upload, parts)
        with uploads.Joined(self.stores.objects, digests) as joined:
            digest = self.stores.objects.put_stream(joined)
        kept = self._keep(owner, path, digest)
        self.abort(owner, path, upload)
        return kept

    def abort(self, owner: str, path: str, upload: str) -> None:
        """Forget an upload and its parts. Nothing happens if there is none."""
        with self.stores.db.begin() as tx:
            uploads.forget(tx, self.scope.project, owner, path, upload)

    def _keep(self, owner: str, path: str, digest: str) -> Artifact:
        size = self.stores.objects.stat(digest).size_bytes
        file = Artifact(path, digest, size, self.stores.clock.now())
        with self.stores.db.begin() as tx:
            shelf = find_shelf(tx, self.scope.project, parse_owner(owner), for_change=True)
            put_file(self.stores.db, tx, shelf, file)
        return file
