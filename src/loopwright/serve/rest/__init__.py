"""HTTP: a server made for small requests on kept-alive connections, and every protocol that it answers."""

from loopwright.serve.rest.app import App
from loopwright.serve.rest.contract import Contract, contract_from
from loopwright.serve.rest.http import HttpLimits, HttpServer

__all__ = ["App", "Contract", "HttpLimits", "HttpServer", "contract_from"]
