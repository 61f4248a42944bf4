"""Execution order is a total order over any names, with layers ascending and fused experts contiguous."""

import random

from hypothesis import given
from hypothesis import strategies as st

from kindling.checkpoint.manifest import LayerKind
from kindling.checkpoint.order import execution_key, layer_of

WORDS = (
    "model",
    "layers",
    "h",
    "experts",
    "w1",
    "w3",
    "w2",
    "norm",
    "embed_tokens",
    "lm_head",
    "attn",
    "weight",
    "0",
    "01",
)
names = st.one_of(
    st.text(max_size=20), st.lists(st.sampled_from(WORDS) | st.integers(0, 120).map(str), max_size=7).map(".".join)
)
KINDS = list(LayerKind)


@given(st.sets(names, max_size=30), st.randoms(use_true_random=False))
def test_any_input_order_gives_the_same_order(unordered: set[str], randomness: random.Random) -> None:
    shuffled = sorted(unordered)
    randomness.shuffle(shuffled)
    assert sorted(shuffled, key=execution_key) == sorted(unordered, key=execution_key)


@given(names, names)
def test_only_equal_names_have_equal_places(one: str, other: str) -> None:
    assert (execution_key(one) == execution_key(other)) == (one == other)


@given(st.sets(names, max_size=30))
def test_steps_are_contiguous_and_in_execution_order(unordered: set[str]) -> None:
    layers = [layer_of(name) for name in sorted(unordered, key=execution_key)]
    starts = [layer for index, layer in enumerate(layers) if index == 0 or layers[index - 1] != layer]
    assert len(starts) == len(set(starts))
    assert [KINDS.index(layer.kind) for layer in layers] == sorted(KINDS.index(layer.kind) for layer in layers)


@given(st.lists(st.integers(0, 200), unique=True, max_size=20), st.sampled_from(["model.layers", "transformer.h"]))
def test_layers_ascend_by_number(indices: list[int], stack: str) -> None:
    ordered = sorted((f"{stack}.{index}.mlp.weight" for index in indices), key=execution_key)
    assert ordered == [f"{stack}.{index}.mlp.weight" for index in sorted(indices)]


@given(st.integers(1, 130), st.sampled_from([("w1", "w3", "w2"), ("gate_proj", "up_proj", "down_proj")]))
def test_experts_lie_as_they_are_fused(count: int, projections: tuple[str, str, str]) -> None:
    path = "model.layers.3.mlp.experts"
    gate, up, down = projections
    fused = [f"{path}.{expert}.{name}.weight" for expert in range(count) for name in (gate, up)]
    fused += [f"{path}.{expert}.{down}.weight" for expert in range(count)]
    others = ["model.layers.3.mlp.gate.weight", "model.layers.4.input_layernorm.weight", "model.norm.weight"]
    ordered = sorted([*reversed(fused), *others], key=execution_key)
    assert ordered == [others[0], *fused, *others[1:]]


def test_ends_of_known_models() -> None:
    def ends(*unordered: str) -> list[str]:
        return sorted(unordered, key=execution_key)

    assert ends("lm_head.weight", "model.norm.weight", "model.layers.0.x", "model.embed_tokens.weight") == [
        "model.embed_tokens.weight",
        "model.layers.0.x",
        "model.norm.weight",
        "lm_head.weight",
    ]
    decoder = "model.decoder"
    assert ends(f"{decoder}.final_layer_norm.weight", f"{decoder}.layers.0.final_layer_norm.weight") == [
        f"{decoder}.layers.0.final_layer_norm.weight",
        f"{decoder}.final_layer_norm.weight",
    ]
    assert [layer_of(name).kind for name in ("wte.weight", "h.0.ln_1.bias", "ln_f.weight", "embed_out.weight")] == [
        LayerKind.EMBEDDING,
        LayerKind.DECODER,
        LayerKind.HEAD,
        LayerKind.HEAD,
    ]
