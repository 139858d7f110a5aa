"""What a hosting platform asks of a container, read from its environment in this one place.

SageMaker, Vertex AI and Seldon say by variables where a container answers; Azure ML says it in its own settings and
asks what is in the container. All routes are there in any case: a contract adds those that the platform chose.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from loopwright.core import Invalid

_SAGEMAKER = (  # its notebooks have many others
    "SAGEMAKER_BIND_TO_PORT",
    "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
    "SAGEMAKER_MODEL_SERVER_WORKERS",
    "SAGEMAKER_MULTI_MODEL",
    "SAGEMAKER_TFS_DEFAULT_MODEL_NAME",
)


class Contract(msgspec.Struct, frozen=True):
    """What the environment asks for.

    Attributes:
        platform: who asks: `sagemaker`, `vertex`, `seldon`, or empty.
        port, grpc_port: where to listen; None where nothing is said.
        health: further paths that tell whether the process is ready.
        predict: further paths that take Vertex AI's requests.
        model: which endpoint answers where a request names none; empty for the only one.
        accept: the form of answers where a request asks for none.
        workers: how many processes; None where nothing is said.
    """

    platform: str = ""
    port: int | None = None
    grpc_port: int | None = None
    health: tuple[str, ...] = ()
    predict: tuple[str, ...] = ()
    model: str = ""
    accept: str = ""
    workers: int | None = None


def contract_from(environ: Mapping[str, str]) -> Contract:
    """The contract in an environment.

    Raises:
        Invalid: a variable holds another value than it may.
    """
    model = environ.get("LOOPWRIGHT_DEFAULT_MODEL", "")
    if "AIP_HTTP_PORT" in environ or "AIP_PREDICT_ROUTE" in environ:
        return _vertex(environ, model)
    if any(name in environ for name in _SAGEMAKER):
        return _sagemaker(environ, model)
    if "PREDICTIVE_UNIT_HTTP_SERVICE_PORT" in environ or "MLSERVER_HTTP_PORT" in environ:
        return _seldon(environ, model)
    return Contract(model=model)


def _vertex(environ: Mapping[str, str], model: str) -> Contract:
    """https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements"""
    health, predict = environ.get("AIP_HEALTH_ROUTE", ""), environ.get("AIP_PREDICT_ROUTE", "")
    return Contract(
        "vertex",
        _number(environ, "AIP_HTTP_PORT", 65_535) or 8080,
        health=_paths("AIP_HEALTH_ROUTE", health),
        predict=_paths("AIP_PREDICT_ROUTE", predict),
        model=model,
    )


def _sagemaker(environ: Mapping[str, str], model: str) -> Contract:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html"""
    return Contract(
        "sagemaker",
        _number(environ, "SAGEMAKER_BIND_TO_PORT", 65_535) or 8080,
        model=model or environ.get("SAGEMAKER_TFS_DEFAULT_MODEL_NAME", ""),
        accept=environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", ""),
        workers=_number(environ, "SAGEMAKER_MODEL_SERVER_WORKERS", 1024),
    )


def _seldon(environ: Mapping[str, str], model: str) -> Contract:
    """https://docs.seldon.io/projects/seldon-core/en/latest/python/python_component.html, and MLServer's settings."""
    names = ("PREDICTIVE_UNIT_HTTP_SERVICE_PORT", "MLSERVER_HTTP_PORT")
    grpc_names = ("PREDICTIVE_UNIT_GRPC_SERVICE_PORT", "MLSERVER_GRPC_PORT")
    return Contract(
        "seldon",
        _first_number(environ, names),
        _first_number(environ, grpc_names),
        model=model or environ.get("MLSERVER_MODEL_NAME", ""),
    )


def _first_number(environ: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    found = [number for name in names if (number := _number(environ, name, 65_535)) is not None]
    return found[0] if found else None


def _number(environ: Mapping[str, str], name: str, most: int) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) <= most:
        raise Invalid(f"{name} is {text!r}", next_step=f"set it to a whole number from 1 to {most}")
    return int(text)


def _paths(name: str, path: str) -> tuple[str, ...]:
    """The path in a variable, if one is there; it must be one path, without parts in braces."""
    if not path:
        return ()
    if not path.startswith("/") or any(sign in path for sign in "{}?#") or not path.isprintable():
        raise Invalid(f"{name} is {path!r}", next_step="set it to a path such as /predict")
    return (path,)
