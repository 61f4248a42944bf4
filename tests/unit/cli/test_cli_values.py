import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling.cli.values import (
    check_model_name,
    format_bytes,
    format_rate,
    format_seconds,
    parse_bytes,
    parse_seconds,
)
from kindling.platform.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4GiB", 4 * 2**30), ("512 MB", 512_000_000), ("1000", 1000), ("1.5gib", 3 * 2**29), ("64m", 64_000_000)],
)
def test_sizes_take_binary_and_decimal_units(text, size_bytes):
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "banana", "-1GiB", "0", "0GiB", "1 XB", "GiB", "1e9", "4 Gi B"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(InvalidArgumentError, match="such as 4GiB") as caught:
        parse_bytes(text)
    assert caught.value.reason == "INVALID_SIZE"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("0", 0), ("1.5s", 1.5), ("1d", 86400)],
)
def test_durations_take_units(text, seconds):
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5minutes", "soon"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(InvalidArgumentError, match="such as 90s") as caught:
        parse_seconds(text)
    assert caught.value.reason == "INVALID_DURATION"


@pytest.mark.parametrize("name", ["llama", "Qwen2.5-0.5B_instruct", "a" * 128])
def test_model_names(name):
    assert check_model_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "a" * 129, "a\n"])
def test_what_cannot_name_a_model_is_refused(name):
    with pytest.raises(InvalidArgumentError) as caught:
        check_model_name(name)
    assert caught.value.reason == "INVALID_MODEL_NAME"


@given(st.integers(min_value=1, max_value=2**50))
def test_a_printed_size_is_within_a_tenth_of_what_it_means(size_bytes):
    assert parse_bytes(format_bytes(size_bytes)) == pytest.approx(size_bytes, rel=0.1)


def test_figures_are_printed_short():
    assert [format_seconds(value) for value in (0.0123, 3.44, 300)] == ["12 ms", "3.4 s", "5 min"]
    assert [format_rate(value) for value in (0, 2.3e9)] == ["–", "2.30 GB/s"]
    assert [format_bytes(value) for value in (0, 272 * 2**20, 3 * 2**29)] == ["0 B", "272 MiB", "1.5 GiB"]
