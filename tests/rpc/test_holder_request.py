"""The messages of clients that hold: which are validated."""

import pytest

from authsvc.model.errors import InvalidArgument
from authsvc.rpc.holder_request import ONLY_NUMBERS, read
from authsvc.v1 import holder_service_pb2 as pb


@pytest.mark.parametrize("name", sorted(ONLY_NUMBERS))
def test_what_is_not_validated_has_no_rule(name: str) -> None:
    """Such a message is a number, of which every value is valid."""
    kind = pb.FollowRequest.DESCRIPTOR.fields_by_name[name].message_type
    assert kind is not None
    assert [field.name for field in kind.fields] == ["number"]
    assert not kind.fields[0].GetOptions().ListFields()
    assert not kind.GetOptions().ListFields()


@pytest.mark.parametrize(
    "message",
    [
        pb.FollowRequest(),
        pb.FollowRequest(join=pb.FollowRequest.Join(capacity=0)),
        pb.FollowRequest(hold=pb.FollowRequest.Hold(number=1, credential="x")),
    ],
)
def test_others_are_validated(message: pb.FollowRequest) -> None:
    with pytest.raises(InvalidArgument):
        read(message.SerializeToString())
