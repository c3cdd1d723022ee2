import builtins
import sys

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from isthmus.runtime.server.reflection import enable_reflection


async def _ask(channel, **question):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(**question))
    answer = await call.read()
    call.cancel()
    return answer


async def test_the_services_are_listed_under_the_wires_names(tiny_server):
    answer = await _ask(tiny_server.channel, list_services="")
    assert {service.name for service in answer.list_services_response.service} == {
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_the_description_names_the_types_a_client_sends(tiny_server):
    answer = await _ask(tiny_server.channel, file_containing_symbol="inference.GRPCInferenceService")
    (raw,) = answer.file_descriptor_response.file_descriptor_proto
    file = descriptor_pb2.FileDescriptorProto.FromString(raw)
    assert file.package == "inference"
    methods = {method.name: method for method in file.service[0].method}
    assert methods["ModelInfer"].input_type == ".inference.ModelInferRequest"
    assert methods["ModelConfig"].output_type == ".inference.ModelConfigResponse"
    assert methods["ModelStreamInfer"].client_streaming
    assert b"isthmus.oip" not in raw


async def test_without_the_package_the_server_says_so_and_goes_on(monkeypatch):
    real_import = builtins.__import__

    def no_reflection(name, *args, **kwargs):
        if name.startswith("grpc_reflection"):
            raise ModuleNotFoundError(name=name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_reflection)
    assert "grpc_reflection" in sys.modules
    assert not enable_reflection(grpc.aio.server())


@pytest.mark.parametrize("symbol", ["inference.ModelInferRequest.InferInputTensor", "grpc.health.v1.Health"])
async def test_nested_messages_and_health_are_described_too(tiny_server, symbol):
    answer = await _ask(tiny_server.channel, file_containing_symbol=symbol)
    assert answer.WhichOneof("message_response") == "file_descriptor_response"
