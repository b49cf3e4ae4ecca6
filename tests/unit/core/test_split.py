"""Assignment: slots, known answers, and what raising a canary may do to whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.split import SLOTS, Slots, fingerprint, lay_out, slot_of

KEYS = [b"customer-%d" % number for number in range(100_000)]
SLOT_OF_KEYS = [slot_of(b"fraud", key) for key in KEYS]

KNOWN_ANSWERS = [
    (b"fraud", b"", 9036),
    (b"fraud", b"c-1", 1232),
    (b"fraud", b"customer-42", 3614),
    (b"fraud-classifier", b"customer-42", 3806),
    (b"a", b"b:c", 7418),
    (b"a:b", b"c", 7418),
    (b"fraud", "käse".encode(), 734),
    (b"fraud", bytes(range(256)), 4390),
]


@pytest.mark.parametrize(("model", "key", "slot"), KNOWN_ANSWERS)
def test_slot_of_known_keys_never_changes(model: bytes, key: bytes, slot: int) -> None:
    assert slot_of(model, key) == slot


def reference_xxh64(data: bytes) -> int:
    """XXH64 with seed 0, written from its specification."""
    mask = (1 << 64) - 1
    p1, p2, p3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
    p4, p5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5

    def rotated(value: int, by: int) -> int:
        return ((value << by) | (value >> (64 - by))) & mask

    def mixed(lane: int, word: int) -> int:
        return rotated((lane + word * p2) & mask, 31) * p1 & mask

    at = 0
    if len(data) >= 32:
        lanes = [(p1 + p2) & mask, p2, 0, -p1 & mask]
        while at + 32 <= len(data):
            words = [int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little") for i in range(4)]
            lanes = [mixed(lane, word) for lane, word in zip(lanes, words, strict=True)]
            at += 32
        total = sum(rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & mask
        for lane in lanes:
            total = ((total ^ mixed(0, lane)) * p1 + p4) & mask
    else:
        total = p5
    total = (total + len(data)) & mask
    while at + 8 <= len(data):
        total ^= mixed(0, int.from_bytes(data[at : at + 8], "little"))
        total = (rotated(total, 27) * p1 + p4) & mask
        at += 8
    if at + 4 <= len(data):
        total ^= int.from_bytes(data[at : at + 4], "little") * p1 & mask
        total = (rotated(total, 23) * p2 + p3) & mask
        at += 4
    for byte in data[at:]:
        total = rotated(total ^ (byte * p5 & mask), 11) * p1 & mask
    for shift, factor in ((33, p2), (29, p3), (32, 1)):
        total = (total ^ (total >> shift)) * factor & mask
    return total


@given(model=st.binary(max_size=40), key=st.binary(max_size=80))
def test_slot_is_xxh64_of_model_colon_key(model: bytes, key: bytes) -> None:
    assert slot_of(model, key) == reference_xxh64(model + b":" + key) % 10_000


def test_reference_knows_the_published_vectors() -> None:
    assert reference_xxh64(b"") == 0xEF46DB3751D8E999
    assert reference_xxh64(b"Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1


@pytest.mark.parametrize("weight", [1, 100, 1000, 2500, 5000, 9999])
def test_share_is_met_within_half_a_point(weight: int) -> None:
    slots = lay_out(0, [(1, weight)])

    got = sum(slots.version_at(slot) == 1 for slot in SLOT_OF_KEYS) / len(KEYS)

    assert abs(got - weight / SLOTS) < 0.005


@given(first=st.integers(0, 6000), second=st.integers(0, 4000))
def test_two_canaries_get_exactly_their_slots(first: int, second: int) -> None:
    slots = lay_out(0, [(1, first), (2, second)])
    covered = [0, 0, 0]
    for end, start, index in zip(slots.ends, (0, *slots.ends), slots.choices, strict=False):
        covered[index] += end - start

    assert covered == [SLOTS - first - second, first, second]


@given(
    before=st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
    raised=st.integers(0, 1),
    by=st.integers(0, 5000),
)
def test_raising_one_of_two_canaries_moves_nobody_off_either(before: tuple[int, int], raised: int, by: int) -> None:
    after = list(before)
    after[raised] = min(after[raised] + by, SLOTS - before[1 - raised])
    old = lay_out(0, [(1, before[0]), (2, before[1])])
    new = lay_out(0, [(1, after[0]), (2, after[1])])

    for slot in range(0, SLOTS, 7):
        was, now = old.version_at(slot), new.version_at(slot)
        assert now in (was, raised + 1)
        assert was == 0 or now == was


def test_ten_to_twenty_percent_moves_no_key_from_the_canary() -> None:
    ten, twenty = lay_out(0, [(1, 1000)]), lay_out(0, [(1, 2000)])

    moves = {(ten.version_at(slot), twenty.version_at(slot)) for slot in SLOT_OF_KEYS}

    assert moves == {(0, 0), (0, 1), (1, 1)}


def test_canary_without_weight_keeps_the_place_of_the_next() -> None:
    both, rolled_back = lay_out(0, [(1, 3000), (2, 1000)]), lay_out(0, [(1, 0), (2, 1000)])

    assert all((both.version_at(slot) == 2) == (rolled_back.version_at(slot) == 2) for slot in range(SLOTS))


def test_layout_of_four_versions() -> None:
    assert lay_out(1, [(0, 1000), (2, 500), (3, 200)]) == Slots((1000, 9300, 9500, 10_000), (0, 1, 3, 2))


@pytest.mark.parametrize(
    ("canaries", "slots"),
    [([], ((10_000,), (0,))), ([(1, 10_000)], ((10_000,), (1,))), ([(1, 0), (2, 10_000)], ((10_000,), (2,)))],
)
def test_whoever_has_nothing_has_no_run(canaries: list[tuple[int, int]], slots: tuple[tuple[int, ...], ...]) -> None:
    assert lay_out(0, canaries) == Slots(*slots)


@pytest.mark.parametrize("canaries", [[(1, 10_001)], [(1, 6000), (2, 4001)], [(1, -1)], [(1, 5000), (2, -1)]])
def test_weights_that_do_not_fit_are_refused(canaries: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="do not fit into 10000 slots"):
        lay_out(0, canaries)


@given(st.lists(st.integers(0, 2500), max_size=4))
def test_runs_cover_every_slot_once(weights: list[int]) -> None:
    slots = lay_out(9, list(enumerate(weights)))

    assert slots.ends[-1] == SLOTS
    assert list(slots.ends) == sorted(set(slots.ends))
    assert slots.version_at(SLOTS - 1) == slots.choices[-1]
    assert slots.version_at(0) == slots.choices[0]


def test_a_fingerprint_tells_keys_and_models_apart_and_is_never_zero() -> None:
    assert fingerprint(b"fraud", b"ann") == fingerprint(b"fraud", b"ann")
    assert len({fingerprint(model, key) for model in (b"fraud", b"churn") for key in (b"ann", b"ben")}) == 4
    assert all(0 < fingerprint(b"fraud", key) < 2**64 for key in KEYS[:1000])
