"""Places behind fsspec URLs: a folder, S3, Google Cloud Storage. Requests are tried again; what that does not mend
is one sentence."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

from fsspec.callbacks import Callback
from fsspec.core import url_to_fs

from training.artifacts.errors import UserError

PACKAGES = {"file": None, "memory": None, "s3": "s3fs", "gs": "gcsfs"}  # scheme -> what it needs beside fsspec
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
}
NO_BUCKET = "bucket does not exist"  # as S3 says it
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before a failed request is tried again
BLOCK = 2**24  # bytes of one request
OF_ANOTHER_PLACE = {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EMLINK, errno.ELOOP}  # no try helps
# Packages whose exceptions are a request's, not a bug of ours.
OF_CLIENTS = {"aiobotocore", "botocore", "aiohttp", "gcsfs", "google", "requests", "urllib3", "asyncio", "fsspec"}
Result = TypeVar("Result")


class Place:
    """A folder of an object store.

    Attributes:
        url: as it is shown.
    """

    def __init__(self, url: str) -> None:
        """Connect.

        Raises:
            UserError: the URL is of no kind that is known, holds a password, or its package is not installed.
        """
        scheme, mark, rest = url.partition("://")
        if not mark:
            scheme, rest = "file", url
        # `s3:/BUCKET` would be a folder here, `~` is the shell's, and fsspec takes what is before `::` for the place.
        misspelt = re.match(r"[A-Za-z][\w+.-]*:(?!//)|~", url) or "::" in url
        if scheme not in PACKAGES or not rest.strip("/") or "@" in rest.partition("/")[0] or misspelt:
            raise UserError(
                "a place is a URL such as s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER, without "
                "credentials: correct it"
            )
        self.scheme, self.url = scheme, url.rstrip("/")
        options: dict[str, Any] = {"use_listings_cache": False}
        if scheme == "s3":
            options["config_kwargs"] = {"connect_timeout": 10, "read_timeout": 60}
        try:
            # Path.resolve would follow links.
            whole = url if mark else f"file://{os.path.abspath(url)}"  # noqa: PTH100
            self._files, self._root = url_to_fs(whole, **options)
        except ImportError:
            version = importlib.metadata.version("fsspec")
            name = PACKAGES[scheme]
            needed = f"{name}=={version}" if name == "s3fs" else f'"{name}<={version}"'
            raise UserError(f"{scheme}:// needs the package {name}: pip install {needed}") from None
        except Exception as error:  # without credentials some clients refuse to be made
            if not _is_of_client(error):
                raise
            raise self._refusal(error) from None

    def read(self, name: str) -> bytes | None:
        """A small file; None where it is not there."""
        content: bytes | None = self._again(lambda: self._files.cat_file(self._path(name)), missing=None)
        return content

    def read_block(self, name: str, start: int, end: int) -> bytes:
        """Bytes start to end of a file; fewer where it ends before. Empty where it is not there."""
        return self._again(lambda: self._files.cat_file(self._path(name), start=start, end=end), missing=b"") or b""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where it is not there."""
        entry = self._again(lambda: self._files.info(self._path(name)), missing=None)
        return None if entry is None or entry.get("type") == "directory" else int(entry["size"])

    def write(self, name: str, content: bytes) -> None:
        """Write a small file whole."""
        self._whole(name, lambda path: self._files.pipe_file(path, content))

    def upload(self, source: str, name: str, advance: Callable[[int], None]) -> None:
        """Write a file whole: an object store shows an object when all of it has arrived.

        Args:
            advance: gets the bytes that arrived.
        """
        counter = _Counter(advance)

        def put(path: str) -> None:
            counter.restart()
            self._files.put_file(source, path, callback=counter)
            counter.finish(os.stat(source).st_size)  # noqa: PTH116

        self._whole(name, put)

    def remove(self, name: str) -> None:
        """Delete a file; nothing where it is not there."""
        self._again(lambda: self._files.rm_file(self._path(name)), missing=None)

    def folders(self) -> list[str]:
        """Names of the folders here, sorted. An object store may list what was written a moment ago a moment later."""
        rows = self._again(lambda: self._files.ls(self._root, detail=True), missing=[]) or []
        return sorted(str(row["name"]).rstrip("/").rpartition("/")[2] for row in rows if row["type"] == "directory")

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _whole(self, name: str, put: Callable[[str], None]) -> None:
        path = self._path(name)
        if self.scheme != "file":
            self._again(lambda: put(path))
            return
        # A folder shows a file while it is written: it gets its name when it is whole.
        beside = f"{path.rpartition('/')[0]}/.{uuid4().hex}.partial"

        def put_and_rename() -> None:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                put(beside)
                with open(beside, "rb") as file:  # noqa: PTH123
                    os.fsync(file.fileno())
                os.replace(beside, path)  # noqa: PTH105
            finally:
                if os.path.exists(beside):  # noqa: PTH110
                    os.unlink(beside)  # noqa: PTH108

        put_and_rename()  # what a disk refuses, it refuses again

    def _again(self, request: Callable[[], Result], missing: Any = UserError) -> Result:
        """A request's result, tried again where it may help.

        Args:
            missing: what stands for a file that is not there; by default that is refused.
        """
        for wait in (*WAITS, None):
            try:
                return request()
            except FileNotFoundError as error:
                if missing is not UserError and NO_BUCKET not in str(error):
                    result: Result = missing
                    return result
                raise self._refusal(error) from None
            except Exception as error:
                if not _is_of_client(error):
                    raise
                if wait is None or _is_final(error):
                    raise self._refusal(error) from None
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _refusal(self, error: Exception) -> UserError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        hint = "try the same command again, it resumes"
        if _lacks_credentials(error):
            hint = CREDENTIALS.get(self.scheme, "give the credentials")
        elif isinstance(error, PermissionError):
            hint = "give credentials that may read and write there"
        elif isinstance(error, FileNotFoundError):
            hint = "make the bucket, or correct the URL"
        elif isinstance(error, NotImplementedError) or getattr(error, "errno", None) in OF_ANOTHER_PLACE:
            hint = "name another place"
        return UserError(f"{self.url}: {reason}: {hint}")


class _Counter(Callback):  # type: ignore[misc]
    """Counts what was sent of a file, each byte once however often it was tried."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()
        self._advance, self._sent, self._counted = advance, 0, 0

    def restart(self) -> None:
        self._sent = 0

    def relative_update(self, inc: int = 1) -> None:
        self.finish(self._sent + inc)

    def finish(self, sent: int) -> None:
        """So many bytes were sent."""
        self._sent = sent
        if sent > self._counted:
            self._advance(sent - self._counted)
            self._counted = sent


def _is_of_client(error: Exception) -> bool:
    """Whether a request failed, so that the sentence is for the operator; else it is a bug of ours."""
    if isinstance(error, (OSError, NotImplementedError)):
        return True
    package = type(error).__module__.partition(".")[0]
    return package in OF_CLIENTS


def _is_final(error: Exception) -> bool:
    """Whether the same request would fail again."""
    kinds = (PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError, NotImplementedError)
    return isinstance(error, kinds) or _lacks_credentials(error)


def _lacks_credentials(error: Exception) -> bool:
    words = f"{type(error).__name__} {error}"
    return "redential" in words or "ProfileNotFound" in words
