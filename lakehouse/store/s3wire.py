"""Requests for single objects of S3, signed and sent without most layers of the client.

What they cost in aiobotocore (models, hooks, user agents) is more than all the rest of a small request. Where
a bucket is, with which credentials and certificates, is still asked of the client, its own session sends
and botocore signs. What needs more (requester pays, keys of one's own, access points) takes the client.
"""

import functools
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from lakehouse.store.asking import Failure, kind_of, wait_s
from lakehouse.store.hashing import Span, whole

_SMALL = 2**20  # bytes that aiohttp takes in one
_METHODS = {
    "get_object": "GET",
    "head_object": "HEAD",
    "put_object": "PUT",
    "delete_object": "DELETE",
    "upload_part": "PUT",
}
_HEADERS = {
    "Range": "Range",
    "ContentMD5": "Content-MD5",
    "IfNoneMatch": "If-None-Match",
    "ChecksumMode": "x-amz-checksum-mode",
}
_ANSWERS = {
    "ETag": "etag",
    "ContentLength": "content-length",
    "ContentRange": "content-range",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ChecksumCRC32C": "x-amz-checksum-crc32c",
    "ChecksumType": "x-amz-checksum-type",
}
_CORRUPT = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
_PASSING = {"SlowDown", "RequestTimeout", "ConditionalRequestConflict", "OperationAborted", "IncompleteBody"}
_SAID = re.compile(rb"<(Code|Message)>([^<]{0,1000})</")


class Wire:
    """Requests to one bucket.

    Args:
        client: The aiobotocore client.
        base: URL that the name of an object is added to.
        signed: Whether requests are signed; not for public buckets asked by nobody in particular.
    """

    def __init__(self, client: Any, base: str, *, signed: bool) -> None:
        self._client, self._base, self._signed = client, base, signed

    @classmethod
    async def of(cls, fs: Any, client: Any, bucket: str) -> "Wire | None":
        """Requests to a bucket; None where the client has to make them."""
        from botocore import UNSIGNED  # type: ignore[import-untyped]

        version = client.meta.config.signature_version
        plain = not (fs.s3_additional_kwargs or fs.req_kw or ":" in bucket or bucket.endswith("--x-s3"))
        if not plain or version not in {UNSIGNED, "s3v4", "v4", None}:
            return None
        url = await client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "name"})
        return cls(client, url.split("?", 1)[0].removesuffix("name"), signed=version is not UNSIGNED)

    @staticmethod
    def takes(operation: str) -> bool:
        """Whether an operation is for a single object."""
        return operation in _METHODS

    async def ask(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """An answer as the client gives it, as far as it is needed; get_object with the bytes as `Body`.

        Raises:
            Failure: The service refused.
        """
        request = await self._request(operation, asked)
        session = self._client._endpoint.http_session  # noqa: SLF001 - the client offers no other way to it
        response = await session.send(request)
        content = await response.content
        status, headers = int(response.status_code), response.headers
        if status >= 300:  # noqa: PLR2004
            raise _refused(status, content, headers)
        answer: dict[str, Any] = {name: headers[said] for name, said in _ANSWERS.items() if said in headers}
        return {**answer, "Body": content}

    async def _request(self, operation: str, asked: dict[str, Any]) -> Any:
        from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]

        query = (
            {"partNumber": asked["PartNumber"], "uploadId": asked["UploadId"]}
            if "PartNumber" in asked
            else {}
        )
        body = asked.get("Body", whole(b""))
        headers = {header: asked[name] for name, header in _HEADERS.items() if name in asked}
        if "Body" in asked:
            headers["Content-Length"] = str(len(body))
        request = AWSRequest(
            method=_METHODS[operation],
            url=f"{self._base}{quote(asked['Key'], safe='/~')}{'?' if query else ''}{urlencode(query)}",
            headers=headers,
        )
        if self._signed:
            signer = self._client._request_signer  # noqa: SLF001 - it has the credentials
            credentials = await signer._credentials.get_frozen_credentials()  # noqa: SLF001
            signing()(credentials, "s3", self._client.meta.region_name).add_auth(request)
        prepared = request.prepare()
        prepared.stream_output = False
        prepared.body = b"".join(body.blocks()) if len(body) < _SMALL else _sending(body)
        return prepared


@functools.cache
def signing() -> Any:
    """What signs: botocore's own, where the bytes are not in memory."""
    from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped]

    class Signing(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
        """Signs the MD5 that goes along instead of the bytes, so that they are not read once more."""

        def payload(self, request: Any) -> str:
            if "Content-MD5" in request.headers:
                return "UNSIGNED-PAYLOAD"
            return str(super().payload(request))

    return Signing


async def _sending(body: Span) -> AsyncIterator[bytes]:
    for block in body.blocks():
        yield block


def refused(status: int, code: str, message: str, headers: Mapping[str, str]) -> Failure:
    """What a refusal means."""
    kind = kind_of(status)
    if code == "NoSuchBucket":
        kind = "no bucket"
    elif code in _CORRUPT:
        kind = "corrupt"
    elif code in _PASSING:
        kind = "passing"
    return Failure(kind, f"{status} {code}: {message}", wait_s=wait_s(headers.get("retry-after")))


def _refused(status: int, content: bytes, headers: Mapping[str, str]) -> Failure:
    said = {name.decode(): text.decode(errors="replace") for name, text in _SAID.findall(content[:65536])}
    return refused(status, said.get("Code", ""), said.get("Message", ""), headers)
