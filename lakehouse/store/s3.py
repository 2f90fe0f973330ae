"""Objects of S3 and of services that speak its protocol: one request each, by s3fs's client.

s3fs's own calls ask for the size before each read, and repeat requests by rules of their own; so the client
behind it (aiobotocore) is called here.
"""

import asyncio
import base64
import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse.store.asking import PAGE, SILENCE_S, SLOWEST, Failure, patiently, size_in
from lakehouse.store.base import Entry
from lakehouse.store.hashing import PIECE, Span, arrived, checksums, differing, size_of
from lakehouse.store.s3wire import Wire, refused

WHOLE = 64 * 2**20  # larger objects are sent in pieces, by a multipart upload
_PIECES_AT_ONCE = 4
_MD5_CHARS = 32
_RIGHTS = {
    "get_object": "s3:GetObject and s3:ListBucket",  # without the latter what is absent is refused
    "head_object": "s3:GetObject and s3:ListBucket",
    "list_objects_v2": "s3:ListBucket",
    "delete_object": "s3:DeleteObject",
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
}
_ELSEWHERE = ("301", "307", "400 AuthorizationHeaderMalformed")  # the bucket is in another region


class S3:
    """The objects of a bucket.

    Args:
        fs: An `s3fs.S3FileSystem`, for its client.
        bucket: Name of the bucket.
    """

    creates = True

    def __init__(self, fs: Any, bucket: str) -> None:
        self._fs, self._bucket = fs, bucket
        self._wire: tuple[Any, Wire | None] | None = None
        self._plain_etags: bool | None = None  # not where keys of a customer encrypt: there it is no md5

    def read(self, name: str, first: int = 0, last: int | None = None) -> bytes:
        """The bytes of an object from `first` up to `last`, exclusive."""
        span = (
            {}
            if not first and last is None
            else {"Range": f"bytes={first}-{'' if last is None else last - 1}"}
        )
        return self._ask("get_object", Key=name, **span)["Body"]  # type: ignore[no-any-return]

    def end(self, name: str, count: int) -> tuple[bytes, int]:
        """The last bytes of an object, and its size."""
        try:
            answer = self._ask("get_object", Key=name, Range=f"bytes=-{count}")
        except Failure as failure:
            if failure.text.startswith("416"):  # it is empty
                return b"", 0
            raise
        return answer["Body"], size_in(answer.get("ContentRange"), answer["Body"])

    def look(self, name: str) -> Entry:
        """What the service says about an object."""
        about = self._ask("head_object", Key=name, ChecksumMode="ENABLED")
        self._learn(about)
        size = int(about["ContentLength"])
        reported = self._of_etag(about["ETag"], size, about)
        if about.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
            for kind, said in (("sha256", "ChecksumSHA256"), ("crc32c", "ChecksumCRC32C")):
                if about.get(said):
                    reported[kind] = base64.b64decode(about[said]).hex()
        return Entry(name, size, reported)

    def write(self, name: str, data: bytes | Path, *, create: bool) -> None:
        """Write an object, and compare the ETag that the service gives it where that is an md5."""
        size = size_of(data)
        condition = {"IfNoneMatch": "*"} if create else {}
        if size < WHOLE:
            body = Span(data, 0, size)
            sent = checksums(body, ["md5"])
            about = self._ask("put_object", Key=name, Body=body, ContentMD5=_base64(sent["md5"]), **condition)
        else:
            about = self._send_pieces(name, data, size, condition)
            sent = checksums(data, ["etag32m"])
        self._learn(about)
        wrong = differing(sent, self._of_etag(about["ETag"], size, about))
        if wrong:
            raise Failure("corrupt", wrong)

    def remove(self, name: str) -> None:
        """Remove an object."""
        self._ask("delete_object", Key=name)

    def walk(self, prefix: str) -> Iterator[Entry]:
        """All objects whose name begins with the prefix, in order of name."""
        for page in self._pages(prefix):
            for item in page.get("Contents", ()):
                if self._plain_etags is None:
                    with contextlib.suppress(Failure):  # it went just now: ask of another
                        self.look(item["Key"])
                size = int(item["Size"])
                yield Entry(item["Key"], size, self._of_etag(item["ETag"], size, {}))

    def below(self, prefix: str) -> Sequence[str]:
        """Names of the folders right below the prefix."""
        pages = self._pages(prefix, Delimiter="/")
        return [each["Prefix"][len(prefix) : -1] for page in pages for each in page.get("CommonPrefixes", ())]

    def _pages(self, prefix: str, **asked: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self._ask("list_objects_v2", Prefix=prefix, MaxKeys=PAGE, **asked)
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    # Checksums.

    def _learn(self, about: Mapping[str, Any]) -> None:
        self._plain_etags = _is_plain(about)

    def _of_etag(self, etag: str, size: int, about: Mapping[str, Any]) -> dict[str, str]:
        """An ETag as the checksum that it is."""
        value = etag.strip('"').lower()
        digest, _, pieces = value.partition("-")
        if len(digest) == _MD5_CHARS and self._plain_etags is not False and _is_plain(about):
            if not pieces:
                return {"md5": value}
            if size >= WHOLE and int(pieces) == -(-size // PIECE):
                return {"etag32m": value}
        return {"etag": value}

    # Uploads in pieces.

    def _send_pieces(
        self, name: str, data: bytes | Path, size: int, condition: dict[str, str]
    ) -> dict[str, Any]:
        upload = self._ask("create_multipart_upload", Key=name)["UploadId"]
        try:
            sent = []
            starts = list(range(0, size, PIECE))
            for at in range(0, len(starts), _PIECES_AT_ONCE):
                sent += self._send_some(name, upload, data, size, starts[at : at + _PIECES_AT_ONCE])
            return self._ask(
                "complete_multipart_upload",
                Key=name,
                UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": n, "ETag": e} for n, e in enumerate(sent, 1)]},
                **condition,
            )
        except BaseException as error:
            with contextlib.suppress(Failure):  # a lifecycle rule of the bucket does it else
                self._once("abort_multipart_upload", Key=name, UploadId=upload)
            if isinstance(error, Failure) and error.kind == "absent":
                raise Failure("passing", f"the upload is not known any more; {error.text}") from None
            raise

    def _send_some(
        self, name: str, upload: str, data: bytes | Path, size: int, starts: Sequence[int]
    ) -> list[str]:
        from concurrent.futures import ThreadPoolExecutor

        def send(start: int) -> str:
            piece = Span(data, start, min(start + PIECE, size))
            md5 = checksums(piece, ["md5"])["md5"]
            answer = self._ask(
                "upload_part",
                Key=name,
                UploadId=upload,
                PartNumber=start // PIECE + 1,
                Body=piece,
                ContentMD5=_base64(md5),
            )
            return str(answer["ETag"])

        with ThreadPoolExecutor(_PIECES_AT_ONCE) as pool:
            return list(pool.map(send, starts))

    # Requests.

    def _ask(self, operation: str, **asked: Any) -> dict[str, Any]:
        try:
            if operation != "get_object" or "Range" in asked:
                return patiently(lambda: self._once(operation, **asked))
            return patiently(lambda: self._proven(self._once(operation, **asked)))
        except Failure as failure:
            failure.needs = _RIGHTS[operation]
            raise

    def _proven(self, answer: dict[str, Any]) -> dict[str, Any]:
        """A whole object, compared with the ETag that came with it."""
        content = answer["Body"]
        wrong = arrived(content, self._of_etag(answer.get("ETag", ""), len(content), answer))
        if wrong:
            raise Failure("passing", wrong)
        return answer

    def _once(self, operation: str, **asked: Any) -> dict[str, Any]:
        from fsspec.asyn import sync

        return sync(self._fs.loop, self._request, operation, asked)  # type: ignore[no-any-return]

    async def _request(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        from aiohttp import ClientConnectorError
        from aiohttp import ClientError as HttpClientError
        from botocore import exceptions  # type: ignore[import-untyped]

        limit_s = SILENCE_S + len(asked["Body"]) / SLOWEST if "Body" in asked else None
        try:
            return await asyncio.wait_for(self._answer(operation, asked), limit_s)
        except exceptions.ClientError as error:
            said, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
            status, headers = int(meta.get("HTTPStatusCode", 0)), meta.get("HTTPHeaders", {})
            raise refused(status, str(said.get("Code", "")), str(said.get("Message", "")), headers) from None
        except exceptions.EndpointConnectionError as error:
            never = isinstance(error.kwargs.get("error"), (ClientConnectorError, socket.gaierror))
            raise Failure("unreachable" if never else "passing", str(error)) from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise Failure("denied", str(error)) from None
        except (exceptions.BotoCoreError, HttpClientError, TimeoutError, OSError) as error:
            passing = not isinstance(error, (exceptions.ParamValidationError, exceptions.ProfileNotFound))
            raise Failure("passing" if passing else "other", f"{type(error).__name__}: {error}") from None

    async def _answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        client = await self._fs.set_session()
        if Wire.takes(operation):
            if self._wire is None or self._wire[0] is not client:
                self._wire = (client, await Wire.of(self._fs, client, self._bucket))
            if self._wire[1] is not None:
                try:
                    return await self._wire[1].ask(operation, asked)
                except Failure as failure:
                    if not failure.text.startswith(_ELSEWHERE):
                        raise
                    self._wire = (client, None)  # the client finds out where the bucket is
        if "Body" in asked:
            asked = {**asked, "Body": b"".join(asked["Body"].blocks())}
        call = getattr(await self._fs.get_s3(self._bucket), operation)
        answer = await call(**self._fs._get_s3_method_kwargs(call, Bucket=self._bucket, **asked))  # noqa: SLF001
        if operation == "get_object":
            async with answer["Body"] as body:
                answer["Body"] = await body.read()
        return answer  # type: ignore[no-any-return]


def _is_plain(about: Mapping[str, Any]) -> bool:
    """Whether the ETag of an object is of its bytes: not where it is encrypted with a customer's key."""
    return about.get("ServerSideEncryption", "AES256") == "AES256" and not about.get("SSECustomerAlgorithm")


def _base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()
