"""Stop sequences are found where a search of the whole text finds them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.gateway.domain.stop_matcher import StopMatcher

few_letters = st.text(alphabet="abü", max_size=40)
stops = st.lists(st.text(alphabet="abü", min_size=1, max_size=5), min_size=1, max_size=4)


def reference(text: str, wanted: list[str]) -> tuple[str, bool]:
    """Grow the text by one character at a time; the first stop sequence to be there ends it."""
    for end in range(len(text) + 1):
        begins = [end - len(stop) for stop in wanted if text[:end].endswith(stop)]
        if begins:
            return text[: min(begins)], True
    return text, False


@given(text=few_letters, wanted=stops, cuts=st.lists(st.integers(1, 6), min_size=1, max_size=6))
@settings(max_examples=1000, deadline=None)
def test_the_result_is_that_of_a_naive_search(text, wanted, cuts):
    matcher = StopMatcher(wanted)
    out, at, turn = "", 0, 0
    while at < len(text):
        out += matcher.feed(text[at : at + cuts[turn % len(cuts)]])
        at, turn = at + cuts[turn % len(cuts)], turn + 1
        # Nothing is given away that the end may take back, and nothing withheld without need.
        assert reference(text, wanted)[0].startswith(out)
        if not matcher.stopped:
            assert any(stop.startswith(text[len(out) : at]) for stop in wanted) or out == text[:at]
    out += matcher.flush()
    assert (out, matcher.stopped) == reference(text, wanted)
