"""gRPC: the Open Inference Protocol V2 with Triton's extensions, and TensorFlow Serving. Needs the extra `grpc`."""

from loopwright.serve.grpc.server import GrpcServer

__all__ = ["GrpcServer"]
