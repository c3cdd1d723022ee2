"""Reflection, so that grpcurl and its like need no .proto file. Optional: extra `server`.

Our messages live in a package of our own; on the wire the service is `inference.GRPCInferenceService`. What
is reflected must be the wire's names, so the descriptors are renamed into a private pool, beside any other
copy in the process.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc import aio
from grpc_health.v1 import health_pb2

from isthmus.runtime.wire import SERVICE_NAME, oip

_HEALTH_SERVICE = "grpc.health.v1.Health"


def enable_reflection(server: aio.Server) -> bool:
    """Serve reflection on `server`; return False if grpcio-reflection is not installed."""
    try:
        from grpc_reflection.v1alpha import reflection, reflection_pb2
    except ModuleNotFoundError:
        return False
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_renamed(oip.DESCRIPTOR.serialized_pb))
    pool.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
    names = (SERVICE_NAME, _HEALTH_SERVICE, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=pool)
    return True


def _renamed(serialized: bytes) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
    ours, protocols = f".{file.package}.", f".{SERVICE_NAME.rpartition('.')[0]}."

    def rename(message: descriptor_pb2.DescriptorProto) -> None:
        for field in message.field:
            if field.HasField("type_name"):  # setting it on a plain field, even to nothing, breaks the file
                field.type_name = field.type_name.replace(ours, protocols)
        for nested in message.nested_type:
            rename(nested)

    for message in file.message_type:
        rename(message)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(ours, protocols)
            method.output_type = method.output_type.replace(ours, protocols)
    file.name = "inference/oip.proto"
    file.package = protocols.strip(".")
    return file
