"""Profiles: sizes as published, speeds as the data sheets allow."""

from dataclasses import replace

import pytest

from kindling.platform.errors import InvalidArgumentError, NotFoundError
from kindling.scheduler.domain.values import Tier
from kindling.simulate.device_kinds import DEVICE_KINDS, device_kind
from kindling.simulate.model_profiles import ARCHITECTURES, derive, model_profile
from kindling.simulate.node_profiles import NODE_PROFILES, local_machine, node_profile


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("opt-6.7b", 6_658_473_984),
        ("opt-13b", 12_853_473_280),
        ("opt-30b", 29_974_540_288),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3-70b", 70_553_706_496),
    ],
)
def test_parameters_as_published(name: str, parameters: int) -> None:
    assert ARCHITECTURES[name].parameters == parameters
    assert model_profile(name, "H100").checkpoint_bytes == 2 * parameters


@pytest.mark.parametrize(
    ("name", "device", "devices"),
    [
        ("opt-6.7b", "A40", 1),
        ("opt-13b", "A40", 1),
        ("opt-30b", "A40", 2),
        ("opt-13b", "A5000", 2),
        ("opt-30b", "A5000", 4),
        ("llama-3-8b", "H100", 1),
        ("llama-3-70b", "H100", 2),
    ],
)
def test_devices_that_hold_a_model(name: str, device: str, devices: int) -> None:
    assert model_profile(name, device).devices == devices


def test_speeds_of_a_model() -> None:
    profile = model_profile("opt-6.7b", "A40")
    assert profile.layers == 32
    assert profile.kv_bytes_per_token == 512 * 1024
    assert profile.seconds_per_token == pytest.approx(0.0273, rel=0.01)  # 13.3 GB at 70 % of 696 GB/s
    assert profile.prefill_tokens_per_second == pytest.approx(5621, rel=0.01)  # half of 149.7 TFLOPS over 13.3 GFLOP


def test_grouped_heads_make_small_caches() -> None:
    assert model_profile("llama-3-8b", "H100").kv_bytes_per_token == 128 * 1024


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("device", DEVICE_KINDS.values(), ids=DEVICE_KINDS)
def test_no_profile_beats_its_hardware(architecture, device) -> None:  # type: ignore[no-untyped-def]
    profile = derive(architecture, device)
    read_per_second = profile.checkpoint_bytes / profile.seconds_per_token
    assert read_per_second < profile.devices * device.memory_bytes_per_second
    assert profile.prefill_tokens_per_second * profile.checkpoint_bytes < profile.devices * device.peak_flops
    assert profile.checkpoint_bytes < profile.devices * device.memory_bytes
    faster = replace(device, peak_flops=2 * device.peak_flops)
    assert derive(architecture, faster).prefill_tokens_per_second == 2 * profile.prefill_tokens_per_second


def test_the_papers_machines() -> None:
    small, large = node_profile("paper-a5000"), node_profile("paper-a40")
    assert (small.devices, small.device_kind, small.device_memory_bytes) == (8, "A5000", 24 * 2**30)
    assert (large.devices, large.device_kind, large.device_memory_bytes) == (4, "A40", 48 * 2**30)
    assert small.bandwidth_bytes_per_second[Tier.SSD] == 12e9
    assert large.bandwidth_bytes_per_second[Tier.REMOTE] == pytest.approx(1.18e9, rel=0.01)


@pytest.mark.parametrize("node", NODE_PROFILES.values(), ids=NODE_PROFILES)
def test_machines_of_the_catalogue(node) -> None:  # type: ignore[no-untyped-def]
    links = node.bandwidth_bytes_per_second
    assert set(links) == {Tier.DRAM, Tier.SSD, Tier.REMOTE}
    assert links[Tier.REMOTE] < links[Tier.SSD] < node.devices * links[Tier.DRAM]
    assert node.device_memory_bytes < node.dram_pool_bytes < node.ssd_bytes


def test_the_local_machine_as_measured() -> None:
    node = local_machine(
        {Tier.DRAM: 9e9, Tier.SSD: 2.8e9, Tier.REMOTE: 1e9},
        workers=2,
        dram_pool_bytes=10**9,
        ssd_bytes=10**10,
        init_seconds=0.1,
    )
    assert node.bandwidth_bytes_per_second == {Tier.SSD: 2.8e9, Tier.REMOTE: 1e9}  # a CPU computes on the pool
    assert (node.devices, node.device_kind, node.init_seconds) == (2, "cpu", 0.1)
    assert node.device_memory_bytes == 10**9


@pytest.mark.parametrize("measured", [{}, {Tier.SSD: 1e9}, {Tier.SSD: 0.0, Tier.REMOTE: 1e9}])
def test_links_must_have_been_measured(measured: dict[Tier, float]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        local_machine(measured, workers=1, dram_pool_bytes=1, ssd_bytes=1, init_seconds=0.1)
    assert caught.value.reason == "LINK_NOT_MEASURED"


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(NotFoundError, match=r"opt-6\.7b") as model:
        model_profile("opt-66b", "A40")
    with pytest.raises(NotFoundError, match="A40") as device:
        device_kind("B200")
    with pytest.raises(NotFoundError, match="h100-box") as node:
        node_profile("laptop")
    reasons = [caught.value.reason for caught in (model, device, node)]
    assert reasons == ["MODEL_PROFILE_UNKNOWN", "DEVICE_KIND_UNKNOWN", "NODE_PROFILE_UNKNOWN"]
