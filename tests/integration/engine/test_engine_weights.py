"""How a checkpoint's tensors become the model's parameters."""

import gc
import json
import re
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling.platform.errors import InvalidArgumentError, UnavailableError
from kindling.worker.adapters.transformers_engine import (
    DirectoryWeightSource,
    TransformersEngine,
    is_supported,
    supported_architectures,
)
from support.engines import (
    MODELS,
    GatedWeightSource,
    OrderedWeightSource,
    generate,
    prompt_of,
    request,
    run,
    tokens,
    write_model,
)


def rewrite(directory: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Replace a directory's weights by one file of changed ones."""
    tensors: dict[str, torch.Tensor] = {}
    for path in directory.glob("*.safetensors"):
        tensors |= load_file(path)
        path.unlink()
    save_file(change(tensors), directory / "model.safetensors")


def expect_reason(directory: Path, reason: str, *parts: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        TransformersEngine(DirectoryWeightSource(directory), directory)
    assert raised.value.reason == reason
    for part in parts:
        assert part in raised.value.message


def edit_config(directory: Path, **values: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def first_tokens(source: object, directory: Path) -> list[int]:
    engine = TransformersEngine(source, directory)  # type: ignore[arg-type]
    return tokens(run(engine, [request("x", prompt_of(12))])["x"])


@pytest.mark.parametrize(("name", "prefix"), [("gpt2", "transformer."), ("opt", "model."), ("llama", "model.")])
def test_checkpoints_of_the_base_model_load(tmp_path: Path, name: str, prefix: str) -> None:
    model = write_model(tmp_path, name)
    rewrite(tmp_path, lambda tensors: {key.removeprefix(prefix): value for key, value in tensors.items()})
    assert first_tokens(DirectoryWeightSource(tmp_path), tmp_path) == generate(model, prompt_of(12), 8)


def test_buffers_that_old_releases_saved_are_ignored(tmp_path: Path) -> None:
    model = write_model(tmp_path, "gpt2")
    buffers = {"transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4), "transformer.h.0.attn.masked_bias": torch.ones(1)}
    rewrite(tmp_path, lambda tensors: {**tensors, **buffers})
    assert first_tokens(DirectoryWeightSource(tmp_path), tmp_path) == generate(model, prompt_of(12), 8)


def test_experts_in_the_packers_order_are_one_view(tmp_path: Path) -> None:
    model = write_model(tmp_path, "mixtral")
    inner = DirectoryWeightSource(tmp_path)

    def order(name: str) -> tuple[str, int, int]:
        part = re.fullmatch(r"(.*\.experts\.)(\d+)\.w([123])\.weight", name)
        if part is None:
            return (name, 0, 0)
        second = part[3] == "2"
        return (part[1] + ("2" if second else "1"), int(part[2]), int(part[3]))

    source = OrderedWeightSource(inner, sorted(inner.tensors, key=order))
    engine = TransformersEngine(source, tmp_path)
    assert engine.copied_weight_bytes == 0
    assert TransformersEngine(inner, tmp_path).copied_weight_bytes > 0
    expected = generate(model, prompt_of(12), 8)
    assert tokens(run(engine, [request("x", prompt_of(12))])["x"]) == expected
    assert first_tokens(inner, tmp_path) == expected


def test_weights_of_another_dtype_are_converted(tmp_path: Path) -> None:
    model = write_model(tmp_path, "llama")
    rewrite(tmp_path, lambda tensors: {name: tensor.double() for name, tensor in tensors.items()})
    engine = TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path)
    assert engine.copied_weight_bytes > 0
    assert tokens(run(engine, [request("x", prompt_of(12))])["x"]) == generate(model, prompt_of(12), 8)


def test_a_configuration_without_dtype_takes_that_of_the_weights(tmp_path: Path) -> None:
    write_model(tmp_path, "llama", dtype=torch.bfloat16)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["dtype"]
    path.write_text(json.dumps(config))
    assert TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path).copied_weight_bytes == 0


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    write_model(tmp_path, "llama")
    rewrite(tmp_path, lambda tensors: {name: value for name, value in tensors.items() if "1.mlp.up_proj" not in name})
    expect_reason(tmp_path, "TENSORS_MISSING", "model.layers.1.mlp.up_proj.weight", "1 tensors")


def test_unexpected_tensors_are_named(tmp_path: Path) -> None:
    write_model(tmp_path, "llama")
    rewrite(tmp_path, lambda tensors: {**tensors, "model.extra.weight": torch.ones(2)})
    expect_reason(tmp_path, "TENSORS_UNEXPECTED", "model.extra.weight")


@pytest.mark.parametrize("shape", [(3, 3), (64, 198)])
def test_tensors_of_another_shape_are_named(tmp_path: Path, shape: tuple[int, int]) -> None:
    write_model(tmp_path, "llama")
    rewrite(tmp_path, lambda tensors: {**tensors, "lm_head.weight": torch.ones(shape)})
    expect_reason(tmp_path, "TENSOR_SHAPE_MISMATCH", "lm_head.weight", str(shape))


@pytest.mark.parametrize("architectures", [["BertForMaskedLM"], ["NoSuchModel"], [], None, ["os"], "LlamaForCausalLM"])
def test_unknown_architectures_are_refused(tmp_path: Path, architectures: object) -> None:
    write_model(tmp_path, "llama")
    edit_config(tmp_path, architectures=architectures)
    expect_reason(tmp_path, "ARCHITECTURE_UNSUPPORTED", "LlamaForCausalLM")


def test_code_of_the_checkpoint_is_never_run(tmp_path: Path) -> None:
    model = write_model(tmp_path, "llama")
    (tmp_path / "evil.py").write_text("raise SystemExit('code of the checkpoint ran')")
    edit_config(tmp_path, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    assert first_tokens(DirectoryWeightSource(tmp_path), tmp_path) == generate(model, prompt_of(12), 8)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "QUANTIZATION_UNSUPPORTED"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "ROPE_UNSUPPORTED"),
        ({"model_type": "opt"}, "CONFIG_INVALID"),
        ({"num_hidden_layers": "many"}, "CONFIG_INVALID"),
    ],
)
def test_configurations_that_the_engine_cannot_honour_are_refused(
    tmp_path: Path, values: dict[str, object], reason: str
) -> None:
    write_model(tmp_path, "llama")
    edit_config(tmp_path, **values)
    expect_reason(tmp_path, reason)


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"])
def test_a_broken_configuration_is_refused(tmp_path: Path, content: bytes | None) -> None:
    write_model(tmp_path, "llama")
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    expect_reason(tmp_path, "CONFIG_INVALID", "config.json")


def test_supported_architectures_can_be_asked_for() -> None:
    assert is_supported("LlamaForCausalLM")
    assert not is_supported("BertForMaskedLM")
    assert {"OPTForCausalLM", "GPT2LMHeadModel", "MixtralForCausalLM"} <= supported_architectures()


@pytest.mark.parametrize("name", MODELS)
def test_layers_run_as_soon_as_their_bytes_are_there(tmp_path: Path, name: str) -> None:
    model = write_model(tmp_path, name)
    source = GatedWeightSource(tmp_path)
    engine = TransformersEngine(source, tmp_path)
    outcome: list[list[int]] = []
    thread = threading.Thread(
        target=lambda: outcome.append(tokens(run(engine, [request("x", prompt_of(12))])["x"])), daemon=True
    )
    thread.start()
    for tensor in reversed(list(source.tensors)):
        assert source.blocked_on.wait(timeout=30)
        source.arrive([tensor])
    thread.join(timeout=30)
    assert outcome == [generate(model, prompt_of(12), 8)]
    waits = len(source.awaited)
    assert tokens(run(engine, [request("y", prompt_of(12))])["y"]) == outcome[0]
    assert len(source.awaited) == waits, "nothing waits once everything is there"


def test_a_layer_waits_for_its_own_bytes_only(tmp_path: Path) -> None:
    write_model(tmp_path, "llama")
    source = GatedWeightSource(tmp_path)
    source.arrive(name for name in source.tensors if not name.startswith("model.layers.1."))
    source.fail()
    engine = TransformersEngine(source, tmp_path)
    engine.add(request("x"))
    with pytest.raises(UnavailableError):
        engine.step()
    assert "model.layers.0.mlp.down_proj.weight" in source.awaited
    assert "lm_head.weight" not in source.awaited


@pytest.mark.parametrize("name", ["llama-tied", "gpt2", "mixtral"])
def test_closing_lets_go_of_every_view_at_once(tmp_path: Path, name: str) -> None:
    write_model(tmp_path, name)
    engine = TransformersEngine(DirectoryWeightSource(tmp_path), tmp_path)
    run(engine, [request("x", prompt_of(12))])
    assert engine._runner is not None
    views = [weakref.ref(parameter) for parameter in engine._runner._model.parameters()]
    gc.collect()
    gc.disable()
    try:
        engine.close()
        assert [view() for view in views] == [None] * len(views), "the mapping could not be unmapped"
    finally:
        gc.enable()
