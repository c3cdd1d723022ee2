"""The messages are the protocol's: the same fields as another implementation's, in one process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2 as triton_config
from tritonclient.grpc import service_pb2 as triton

from isthmus.runtime.wire import oip

REPOSITORY = Path(__file__).parents[3]

# Ours alone, which other implementations skip, and MLServer's.
OURS = {
    ("ModelInferRequest", "isthmus_budget_us"),
    ("ModelInferResponse", "isthmus"),
    ("ModelMetadataResponse", "parameters"),
}


def _theirs():
    named = {}
    for file in (triton.DESCRIPTOR, triton_config.DESCRIPTOR):
        named.update(file.message_types_by_name)
    return named


def _fields(message):
    return {
        (field.name, field.number, field.type, field.is_repeated)
        for field in message.fields
        if (message.name, field.name) not in OURS
    }


def _enums(holder):
    return {
        (enum.name, value.name, value.number)
        for enum in (
            holder.enum_types if hasattr(holder, "enum_types") else holder.enum_types_by_name.values()
        )
        for value in enum.values
    }


@pytest.mark.parametrize("name", sorted(set(oip.DESCRIPTOR.message_types_by_name) - {"IsthmusAnswer"}))
def test_every_field_is_the_protocols(name):
    ours = oip.DESCRIPTOR.message_types_by_name[name]
    theirs = _theirs()[name]
    # Ours may lack fields: those that say nothing of our models, or that other servers lack.
    assert _fields(ours) <= _fields(theirs)
    assert _enums(ours) <= _enums(theirs)
    nested_theirs = {nested.name: nested for nested in theirs.nested_types}
    for nested in ours.nested_types:
        if name != "ModelMetadataResponse" or nested.name != "ParametersEntry":  # MLServer's
            assert _fields(nested) <= _fields(nested_theirs[nested.name])


def test_the_enums_values_are_tritons():
    assert _enums(oip.DESCRIPTOR) <= _enums(triton_config.DESCRIPTOR)
    assert _enums(oip.DESCRIPTOR)


def test_the_messages_of_the_protocol_itself_are_complete():
    for name in (
        "ModelInferRequest",
        "ModelInferResponse",
        "ModelStreamInferResponse",
        "InferTensorContents",
    ):
        assert _fields(oip.DESCRIPTOR.message_types_by_name[name]) == _fields(_theirs()[name])


def test_what_is_not_tritons_takes_numbers_that_triton_does_not_use():
    numbers = {
        (message.name, field.name): field.number
        for message in oip.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if (message.name, field.name) in OURS
    }
    assert numbers == {
        ("ModelInferRequest", "isthmus_budget_us"): 1001,
        ("ModelInferResponse", "isthmus"): 1001,
        ("ModelMetadataResponse", "parameters"): 6,
    }
    for message, name in OURS:
        theirs = {field.number for field in _theirs()[message].fields}
        assert numbers[message, name] not in theirs


def test_every_method_has_the_protocols_types():
    theirs = triton.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        other = theirs.methods_by_name[method.name]
        assert (method.input_type.name, method.output_type.name) == (
            other.input_type.name,
            other.output_type.name,
        )
        assert (method.client_streaming, method.server_streaming) == (
            other.client_streaming,
            other.server_streaming,
        )


def test_bytes_of_one_implementation_are_read_by_the_other():
    ours = oip.ModelInferRequest(model_name="m", id="7", raw_input_contents=[b"\x01\x02"])
    ours.inputs.add(name="latent", datatype="UINT8", shape=[1, 2])
    ours.parameters["isthmus_budget_us"].int64_param = -5
    theirs = triton.ModelInferRequest.FromString(ours.SerializeToString())
    assert theirs.model_name == "m"
    assert theirs.parameters["isthmus_budget_us"].int64_param == -5
    assert list(theirs.inputs[0].shape) == [1, 2]
    assert oip.ModelInferRequest.FromString(theirs.SerializeToString(deterministic=True)) == ours


@pytest.fixture
def copied_repository(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPOSITORY / "scripts/generate-protos", tmp_path / "scripts")
    (tmp_path / "runtime/wire").mkdir(parents=True)
    for name in ("oip.proto", "oip_pb2.py", "oip_pb2.pyi"):
        shutil.copy(REPOSITORY / "runtime/wire" / name, tmp_path / "runtime/wire")
    (tmp_path / "isthmus").mkdir()
    (tmp_path / "isthmus/runtime").symlink_to("../runtime")
    return tmp_path


def _check_drift(repository):
    return subprocess.run(
        [repository / "scripts/generate-protos", "--check"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_committed_modules_are_what_the_proto_generates(copied_repository):
    result = _check_drift(copied_repository)
    assert result.returncode == 0, result.stderr


def test_a_proto_that_was_changed_alone_is_drift(copied_repository):
    proto = copied_repository / "runtime/wire/oip.proto"
    proto.write_text(proto.read_text().replace("bool live = 1;", "bool live = 2;"))
    result = _check_drift(copied_repository)
    assert result.returncode == 1
    assert "runtime/wire/oip_pb2.py is not what oip.proto generates" in result.stderr
