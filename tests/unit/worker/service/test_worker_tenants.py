"""A generation's tenant goes with it."""

from kindling.v1 import inference_pb2
from kindling.worker.convert import generation_from_wire
from kindling.worker.convert_migration import begin_to_wire
from support.engines import request


def test_a_call_says_whose_the_generation_is() -> None:
    call = inference_pb2.GenerateRequest(generation_id="g", prompt_token_ids=[1], tenant="acme")
    call.sampling.max_tokens = 3
    assert generation_from_wire(call).tenant == "acme"


def test_a_migrated_generation_begins_as_the_same_tenants_elsewhere() -> None:
    asked = request("g", tenant="acme", emitted=(4, 5), temperature=0.5, seed=9)
    assert generation_from_wire(begin_to_wire("m-2", asked).begin) == asked
