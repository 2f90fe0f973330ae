"""The demonstration shop over HTTP: which path shows which page, and the endpoint that is flaky.

Only the network is here; the shop itself is in `assortment` and its HTML in `pages`. The server
listens on loopback alone and keeps nothing but the list of flaky pages it has already refused once.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, urlsplit

from ingest.shopsite import pages
from ingest.shopsite.assortment import assortment, categories, faults

FLAKY_SHELF = "tea"
PAGE_SIZE = 6

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the shop says to one request."""

    status: HTTPStatus
    text: str
    content_type: str = "text/html; charset=utf-8"
    retry_after_s: int | None = None


class Shop:
    """The shop on one day: answers paths with pages.

    Args:
        day: The day to show.
        retry_after_s: What the flaky shelf asks for when it refuses a page, in seconds.
    """

    def __init__(self, day: date, *, retry_after_s: int = 0) -> None:
        self.day = day
        self._retry_after_s = retry_after_s
        self._products = assortment(day)
        self._by_path = {pages.path_of(product): product for product in self._products}
        self._faults = faults(day)
        self._refused: set[str] = set()
        self._lock = Lock()

    def answer(self, target: str) -> Answer:
        """Answer a request target such as `/c/tea?page=2`."""
        url = urlsplit(target)
        if url.path == "/":
            return Answer(HTTPStatus.OK, pages.home(self.day, self._products))
        if url.path == "/robots.txt":
            return Answer(HTTPStatus.OK, "User-agent: *\nAllow: /\n", "text/plain; charset=utf-8")
        if url.path in self._by_path:
            return self._product_page(url.path)
        if url.path.startswith("/c/"):
            number = parse_qs(url.query).get("page", ["1"])[0]
            return self._shelf_page(url.path.removeprefix("/c/"), number)
        return self._not_found()

    def _product_page(self, path: str) -> Answer:
        product = self._by_path[path]
        fault = self._faults.get(product.sku)
        return Answer(HTTPStatus.OK, pages.product(self.day, product, fault))

    def _shelf_page(self, slug: str, number: str) -> Answer:
        shelf = next((shelf for shelf in categories() if shelf.slug == slug), None)
        products = [product for product in self._products if product.category == shelf]
        count = -(-len(products) // PAGE_SIZE)
        if shelf is None or number not in map(str, range(1, count + 1)):
            return self._not_found()
        if slug == FLAKY_SHELF and self._is_first_visit(number):
            return self._busy()
        page = int(number)
        shown = products[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        return Answer(HTTPStatus.OK, pages.shelf(self.day, shelf, shown, page=page, pages=count))

    def _is_first_visit(self, number: str) -> bool:
        with self._lock:
            first = number not in self._refused
            self._refused.add(number)
            return first

    def _busy(self) -> Answer:
        text = pages.trouble(self.day, "One moment", "The kettle is on; ask again shortly.")
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, text, retry_after_s=self._retry_after_s)

    def _not_found(self) -> Answer:
        text = pages.trouble(self.day, "Not on our shelves", "It may be back another day.")
        return Answer(HTTPStatus.NOT_FOUND, text)


class _Server(ThreadingHTTPServer):
    # Connections that a client keeps open must not hold up the end of a run.
    daemon_threads = True

    def __init__(self, shop: Shop, port: int) -> None:
        self.shop = shop
        super().__init__(("127.0.0.1", port), _Request)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (fixed)
        """Log what went wrong: mostly a browser that hung up, which is no news for a terminal."""
        _log.debug("request from %s failed", client_address, exc_info=True)


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "harbour-and-quill"
    sys_version = ""
    # One packet for headers and body: sent apart, each answer on a kept connection costs 40 ms.
    wbufsize = -1
    timeout = 30
    server: _Server

    def do_GET(self) -> None:
        """Answer with a page."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers of a page."""
        self._send(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it)
        """Log instead of writing to standard error."""
        _log.debug(format, *args)

    def _send(self, *, with_body: bool) -> None:
        answer = self.server.shop.answer(self.path)
        body = answer.text.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        if answer.retry_after_s is not None:
            self.send_header("Retry-After", str(answer.retry_after_s))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@contextmanager
def serve(day: date, *, port: int = 0, retry_after_s: int = 0) -> Iterator[str]:
    """Serve the shop as it is on a day, for as long as the block runs.

    Args:
        day: The day to show; the same day always shows the same shop.
        port: Port on 127.0.0.1; 0 takes a free one.
        retry_after_s: What the flaky shelf asks for when it refuses a page, in seconds.

    Yields:
        The address of the shop, without a slash at its end: `http://127.0.0.1:49152`.

    Raises:
        OSError: The port is taken.
    """
    with _Server(Shop(day, retry_after_s=retry_after_s), port) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), name="shopsite", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
