"""HTTP: a server made for small requests on kept-alive connections, and the Open Inference Protocol V2 in JSON."""

from loopwright.serve.rest.app import App
from loopwright.serve.rest.http import HttpLimits, HttpServer

__all__ = ["App", "HttpLimits", "HttpServer"]
