"""Execution order: embeddings, layer 0, 1, …, norm, head, by the names of the tensors alone.

Experts get special care. transformers fuses ``experts.{e}.w1``, ``w3`` and ``w2`` (or ``gate_proj``, ``up_proj``,
``down_proj``; ``fc1``, ``fc3``, ``fc2``) as it loads: ``gate_up_proj[E, 2I, H]`` is, per expert, the gate's rows and
then the up projection's, and ``down_proj[E, H, I]`` is every expert's w2. Laid out in that order, each fused parameter
is one contiguous range of the file, so it can be a view instead of a copy.
"""

import re
from typing import Final, NamedTuple

from kindling.checkpoint.manifest import LayerKind

_LAYER = re.compile(r"(?P<stack>(?:[^.]+\.)*?(?:layers|h|layer|blocks|block))\.(?P<index>[0-9]{1,9})\.")
_EMBEDDING = re.compile(r"embed|wte|wpe|project_in")
_FINAL = re.compile(r"norm|ln_f|project_out")
_OUTPUT_HEAD = re.compile(r"head|embed_out|score|classifier|\boutput\.")
_EXPERT = re.compile(r"(?P<path>.*\bexperts)\.(?P<expert>[0-9]{1,9})\.(?P<projection>[^.]+)(?P<rest>.*)")
#: (which fused parameter, which half of it) of an expert's projection.
_FUSION: Final = {
    **dict.fromkeys(("w1", "gate_proj", "fc1"), (0, 0)),
    **dict.fromkeys(("w3", "up_proj", "fc3"), (0, 1)),
    **dict.fromkeys(("w2", "down_proj", "fc2"), (1, 0)),
}
_UNFUSED: Final = (2, 0)
#: Stages of a decoder layer: the first pattern that is found wins.
_STAGES: Final = (
    re.compile(r"input_layernorm|\.ln_1\.|self_attn_layer_norm|attention_norm"),
    re.compile(r"post_attention|\.ln_2\.|final_layer_norm|ffn_norm|feedforward_layernorm"),
    re.compile(r"attn|attention"),
)
_STAGE_RANK: Final = (0, 2, 1)
_LAST_STAGE: Final = 3

Natural = tuple[tuple[int, int, str], ...]


class TensorKey(NamedTuple):
    """Sort key of a tensor; comparing two keys compares their places in execution order."""

    kind: int
    stack: tuple[int, str]
    layer: int
    stage: int
    group: Natural
    fused: int
    expert: int
    half: int
    name: Natural
    #: Names such as ``a.01`` and ``a.1`` are naturally equal: the spelling decides.
    spelling: str


class Layer(NamedTuple):
    """The step of execution that a tensor belongs to; ``name`` is a module path for a decoder layer."""

    kind: LayerKind
    name: str


def layer_of(name: str) -> Layer:
    """The step of execution that needs the tensor ``name``."""
    if match := _LAYER.match(name):
        return Layer(LayerKind.DECODER, f"{match['stack']}.{int(match['index'])}")
    if _OUTPUT_HEAD.search(name) or (_FINAL.search(name) and not _EMBEDDING.search(name)):
        return Layer(LayerKind.HEAD, LayerKind.HEAD.value)
    return Layer(LayerKind.EMBEDDING, LayerKind.EMBEDDING.value)


def execution_key(name: str) -> TensorKey:
    """The tensor's place in execution order: a total order over names, whatever file they come from."""
    kind = layer_of(name).kind
    if kind is LayerKind.EMBEDDING:
        return _key(0, name)
    if kind is LayerKind.HEAD:
        return _key(2, name, stage=1 if _OUTPUT_HEAD.search(name) else 0)
    match = _LAYER.match(name)
    assert match is not None
    return _layer_key(name, match["stack"], int(match["index"]))


def _layer_key(name: str, stack: str, layer: int) -> TensorKey:
    place = ((0 if re.search("encoder|vision|visual", stack) else 1), stack)
    if match := _EXPERT.fullmatch(name):
        fused, half = _FUSION.get(match["projection"], _UNFUSED)
        # Weights, biases and scales are fused apart from each other.
        group = _natural(f"{match['path']}{match['rest']}")
        return TensorKey(
            1, place, layer, _LAST_STAGE + 1, group, fused, int(match["expert"]), half, _natural(name), name
        )
    return _key(1, name, stack=place, layer=layer, stage=_stage(name))


def _stage(name: str) -> int:
    for pattern, rank in zip(_STAGES, _STAGE_RANK, strict=True):
        if pattern.search(name):
            return rank
    return _LAST_STAGE


def _key(kind: int, name: str, *, stack: tuple[int, str] = (0, ""), layer: int = 0, stage: int = 0) -> TensorKey:
    return TensorKey(kind, stack, layer, stage, (), 0, 0, 0, _natural(name), name)


def _natural(name: str) -> Natural:
    """``name`` as parts that compare numbers by value: ``x.2`` before ``x.10``."""
    parts = re.split(r"([0-9]{1,18})", name)
    return tuple((1, int(part), "") if index % 2 else (0, 0, part) for index, part in enumerate(parts))
