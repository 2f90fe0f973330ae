"""Objects of Google Cloud Storage: its JSON API, one request each, by gcsfs's session and credentials.

gcsfs's own calls ask twice for what one request answers, repeat requests by rules of their own, and drop
what the service says about bucket and checksum; so the requests are made here.
"""

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from lakehouse.store.asking import (
    CONNECT_S,
    PAGE,
    SILENCE_S,
    SLOWEST,
    Failure,
    kind_of,
    patiently,
    size_in,
    wait_s,
)
from lakehouse.store.base import Entry
from lakehouse.store.hashing import Span, differing, first_of, size_of

WHOLE = 64 * 2**20  # larger objects are sent in pieces, by a resumable upload
PIECE = 32 * 2**20
_GO_ON = 308  # what an upload in pieces is answered until it is whole
_SMALL = 2**20  # bytes that aiohttp takes in one
_RIGHTS = {
    "GET": "storage.objects.get",
    "LIST": "storage.objects.list",
    "POST": "storage.objects.create",
    "PUT": "storage.objects.create",
    "DELETE": "storage.objects.delete",
}
_FIELDS = "items(name,size,md5Hash,crc32c),prefixes,nextPageToken"


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content: bytes


class Gcs:
    """The objects of a bucket.

    Args:
        fs: A `gcsfs.GCSFileSystem`, for its session and credentials.
        bucket: Name of the bucket.
    """

    creates = True

    def __init__(self, fs: Any, bucket: str) -> None:
        self._fs, self._bucket = fs, bucket
        base = str(fs._location).rstrip("/")  # noqa: SLF001 - gcsfs says it nowhere else
        self._objects = f"{base}/storage/v1/b/{quote(bucket, safe='')}/o"
        self._uploads = f"{base}/upload/storage/v1/b/{quote(bucket, safe='')}/o"

    def read(self, name: str, first: int = 0, last: int | None = None) -> bytes:
        """The bytes of an object from `first` up to `last`, exclusive."""
        span = (
            {}
            if not first and last is None
            else {"Range": f"bytes={first}-{'' if last is None else last - 1}"}
        )
        return self._ask("GET", self._url(name), params={"alt": "media"}, headers=span).content

    def end(self, name: str, count: int) -> tuple[bytes, int]:
        """The last bytes of an object, and its size."""
        span = {"Range": f"bytes=-{count}"}
        try:
            answer = self._ask("GET", self._url(name), params={"alt": "media"}, headers=span)
        except Failure as failure:
            if failure.text.startswith("416"):  # it is empty
                return b"", 0
            raise
        return answer.content, size_in(answer.headers.get("Content-Range"), answer.content)

    def look(self, name: str) -> Entry:
        """What the service says about an object."""
        return _entry(self._told(self._url(name), params={"fields": "name,size,md5Hash,crc32c"}))

    def write(self, name: str, data: bytes | Path, *, create: bool) -> None:
        """Write an object, and compare what the service reports of it."""
        size = size_of(data)
        sent = first_of(data, ("crc32c", "md5"))
        about = {"name": name, "contentType": "application/octet-stream", **_as_google(sent)}
        condition = {"ifGenerationMatch": "0"} if create else {}
        send = self._send_whole if size < WHOLE else self._send_pieces
        reported = _entry(_object(send(about, data, size, condition)))
        wrong = differing(sent, reported.checksums)
        if wrong or reported.size_bytes != size:
            raise Failure("corrupt", wrong or f"{reported.size_bytes} bytes instead of {size}")

    def remove(self, name: str) -> None:
        """Remove an object."""
        self._ask("DELETE", self._url(name))

    def walk(self, prefix: str) -> Iterator[Entry]:
        """All objects whose name begins with the prefix, in order of name."""
        for page in self._pages(prefix):
            yield from (_entry(item) for item in page.get("items", ()))

    def below(self, prefix: str) -> Sequence[str]:
        """Names of the folders right below the prefix."""
        pages = self._pages(prefix, delimiter="/")
        return [each[len(prefix) : -1] for page in pages for each in page.get("prefixes", ())]

    def _pages(self, prefix: str, **asked: str) -> Iterator[dict[str, Any]]:
        asked |= {"prefix": prefix, "maxResults": str(PAGE), "fields": _FIELDS}
        while True:
            try:
                page = self._told(self._objects, params=asked)
            except Failure as failure:
                raise Failure("no bucket", failure.text) if failure.kind == "absent" else failure from None
            yield page
            if not page.get("nextPageToken"):
                return
            asked["pageToken"] = page["nextPageToken"]

    def _url(self, name: str) -> str:
        return f"{self._objects}/{quote(name, safe='')}"

    # Uploads.

    def _send_whole(
        self, about: dict[str, str], data: bytes | Path, size: int, condition: dict[str, str]
    ) -> bytes:
        """One request with description and bytes; the bucket must be there."""
        line = b"--=lake-part="
        head = (
            line + b"\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n" + json.dumps(about).encode()
            + b"\r\n" + line + b"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )  # fmt: skip
        tail = b"\r\n" + line + b"--"
        headers = {
            "Content-Type": 'multipart/related; boundary="=lake-part="',
            "Content-Length": str(len(head) + size + len(tail)),
        }
        return self._upload(
            "POST",
            self._uploads,
            params={"uploadType": "multipart", **condition},
            headers=headers,
            body=(head, Span(data, 0, size), tail),
        ).content

    def _send_pieces(
        self, about: dict[str, str], data: bytes | Path, size: int, condition: dict[str, str]
    ) -> bytes:
        begun = self._upload(
            "POST",
            self._uploads,
            params={"uploadType": "resumable", **condition},
            headers={"Content-Type": "application/json", "X-Upload-Content-Length": str(size)},
            body=(json.dumps(about).encode(), Span(b"", 0, 0), b""),
        )
        said = urlsplit(begun.headers["Location"])  # wherever that is: credentials go to our endpoint only
        session = urlsplit(self._uploads)._replace(path=said.path, query=said.query).geturl()
        done = 0
        while True:
            answer = self._piece(session, data, done, min(done + PIECE, size), size)
            if answer.status != _GO_ON:
                return answer.content
            done = _received(answer)

    def _piece(self, session: str, data: bytes | Path, first: int, last: int, size: int) -> _Answer:
        """Send a piece. It may be sent again: the service leaves out bytes that it has already."""
        headers = {"Content-Range": f"bytes {first}-{last - 1}/{size}", "Content-Length": str(last - first)}
        try:
            return self._ask("PUT", session, headers=headers, body=(b"", Span(data, first, last), b""))
        except Failure as failure:
            if failure.kind == "absent":
                raise Failure("passing", f"the upload is not known any more; {failure.text}") from None
            raise

    def _upload(self, method: str, url: str, **asked: Any) -> _Answer:
        try:
            return self._ask(method, url, **asked)
        except Failure as failure:
            if failure.kind == "absent":
                raise Failure("no bucket", failure.text) from None
            raise

    # Requests.

    def _ask(self, method: str, url: str, **asked: Any) -> _Answer:
        return patiently(lambda: self._once(method, url, **asked))

    def _told(self, url: str, *, params: Mapping[str, str]) -> dict[str, Any]:
        return patiently(lambda: _object(self._once("GET", url, params=params).content))

    def _once(self, method: str, url: str, **asked: Any) -> _Answer:
        from fsspec.asyn import sync

        return sync(self._fs.loop, self._request, method, url, **asked)  # type: ignore[no-any-return]

    async def _request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: tuple[bytes, Span, bytes] | None = None,
    ) -> _Answer:
        import aiohttp

        fs = self._fs
        size = len(body[1]) if body else 0
        limit = aiohttp.ClientTimeout(
            total=SILENCE_S + size / SLOWEST if size else None, sock_connect=CONNECT_S, sock_read=SILENCE_S
        )
        try:
            session = await fs._set_session()  # noqa: SLF001 - gcsfs offers no other way to its session
            async with session.request(
                method,
                url,
                params=fs._get_params(dict(params or {})),  # noqa: SLF001
                headers=fs._get_headers(dict(headers or {})),  # noqa: SLF001
                data=_body(*body) if body else None,
                timeout=limit,
                allow_redirects=False,
            ) as answer:
                said = _Answer(answer.status, answer.headers, await answer.read())
        except aiohttp.ClientConnectorError as error:
            raise Failure("unreachable", f"{type(error).__name__}: {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Failure("passing", f"{type(error).__name__}: {error}") from None
        except Exception as error:  # noqa: BLE001 - of credentials
            raise Failure("denied", f"{type(error).__name__}: {error}") from None
        if said.status < 300 or said.status == _GO_ON:  # noqa: PLR2004
            return said
        raise _failure(said, _RIGHTS["LIST" if url == self._objects else method])


def _body(head: bytes, span: Span, tail: bytes) -> bytes | AsyncIterator[bytes]:
    if len(head) + len(span) < _SMALL:
        return b"".join((head, *span.blocks(), tail))

    async def sending() -> AsyncIterator[bytes]:
        if head:
            yield head
        for block in span.blocks():
            yield block
        if tail:
            yield tail

    return sending()


def _object(content: bytes) -> dict[str, Any]:
    """An answer in JSON; what is none, such as the page of a proxy on the way, may pass."""
    try:
        said = json.loads(content)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Failure("passing", f"an answer that is no JSON object: {content[:100]!r}")
    return said


def _received(answer: _Answer) -> int:
    """How many bytes of an upload the service has."""
    return int(answer.headers["Range"].rsplit("-", 1)[1]) + 1 if "Range" in answer.headers else 0


def _failure(answer: _Answer, needs: str) -> Failure:
    status, headers, content = answer
    text = content.decode(errors="replace")[:500]
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(content)["error"]["message"])
    kind = kind_of(status)
    # "No such object: my-bucket/lake/shop/…" names the bucket, too.
    if kind == "absent" and "bucket" in text.lower() and not text.startswith("No such object"):
        kind = "no bucket"
    elif status == 400 and ("md5" in text.lower() or "crc32c" in text.lower()):  # noqa: PLR2004
        kind = "corrupt"
    return Failure(kind, f"{status} {text}".strip(), wait_s=wait_s(headers.get("Retry-After")), needs=needs)


def _as_google(sums: Mapping[str, str]) -> dict[str, str]:
    names = {"md5": "md5Hash", "crc32c": "crc32c"}
    return {names[name]: base64.b64encode(bytes.fromhex(value)).decode() for name, value in sums.items()}


def _entry(about: Mapping[str, Any]) -> Entry:
    names = {"md5": "md5Hash", "crc32c": "crc32c"}
    reported = {name: base64.b64decode(about[said]).hex() for name, said in names.items() if about.get(said)}
    return Entry(str(about["name"]), int(about.get("size", 0)), reported)
