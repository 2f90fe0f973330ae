"""Proxies on loopback between us and a server, which fail on command: one for HTTP, one for any TCP.

Each counts what passes from the client to the server, asks a hook about each, and does what it says.
They run in threads of the tests' process and end, with all their connections, with their `with` block.
"""

from proxy_faults import Fault, Kind
from proxy_http import HttpProxy, Request
from proxy_tcp import Piece, TcpProxy

__all__ = ["Fault", "HttpProxy", "Kind", "Piece", "Request", "TcpProxy"]
