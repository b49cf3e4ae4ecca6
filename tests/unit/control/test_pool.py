from __future__ import annotations

from router.control.needs import Credential, ForwardNeed
from router.control.pool import Found, Pool
from router.core.snapshot import Endpoint

A = Endpoint("tcp", "10.0.0.1", 80)
B = Endpoint("tcp", "10.0.0.2", 80)
URL = "http://host"
NEED = ForwardNeed((URL,), "fraud")


def pool_of(*endpoints: Endpoint, admitted: bool = False) -> Pool:
    pool = Pool(NEED, admitted=admitted)
    pool.find(Found({URL: endpoints}, ()))
    return pool


def test_one_answering_endpoint_admits() -> None:
    pool = pool_of(A, B)
    assert pool.fact().state == "warming"
    pool.probed({A: "refused", B: ""})
    assert pool.fact().state == "ready"
    assert pool.fact().endpoints == (A, B)


def test_no_answer_is_unready_with_the_reason_and_given_up_on_after_three() -> None:
    pool = pool_of(A)
    pool.probed({A: "refused"})
    assert (pool.fact().state, pool.fact().reason, pool.fact().given_up) == ("unready", "refused", False)
    for _ in range(2):
        pool.find(Found({URL: (A,)}, ()))
        pool.probed({A: "refused"})
    assert pool.fact().given_up
    pool.probed({A: ""})
    assert (pool.fact().state, pool.fact().given_up) == ("ready", False)


def test_once_admitted_it_stays_ready_whatever_fails() -> None:
    pool = pool_of(A, admitted=True)
    for _ in range(5):
        pool.probed({A: "refused"})
    assert pool.fact().state == "ready"


def test_admitted_in_an_earlier_life_waits_for_addresses_only() -> None:
    pool = Pool(NEED, admitted=True)
    assert pool.fact().state == "warming"
    pool.find(Found({URL: (A,)}, ()))
    assert pool.fact().state == "ready"


def test_three_failures_in_a_row_make_unhealthy_and_one_answer_healthy() -> None:
    pool = pool_of(A, B)
    for _ in range(2):
        pool.probed({A: "refused", B: ""})
    assert [endpoint.healthy for endpoint in pool.fact().endpoints] == [True, True]
    pool.probed({A: "refused", B: ""})
    assert [endpoint.healthy for endpoint in pool.fact().endpoints] == [False, True]
    pool.probed({A: "", B: ""})
    assert [endpoint.healthy for endpoint in pool.fact().endpoints] == [True, True]


def test_where_all_fail_all_are_tried() -> None:
    pool = pool_of(A, B, admitted=True)
    for _ in range(4):
        pool.probed({A: "refused", B: "refused"})
    assert [endpoint.healthy for endpoint in pool.fact().endpoints] == [True, True]


def test_a_name_that_fails_keeps_its_addresses_and_new_addresses_replace_old_ones() -> None:
    pool = pool_of(A)
    pool.probed({A: ""})
    pool.find(Found({}, (), ("host cannot be resolved",)))
    assert pool.fact().endpoints == (A,)
    assert pool.fact().reason == "host cannot be resolved"
    pool.find(Found({URL: (B,)}, ()))
    assert pool.fact().endpoints == (B,)


def test_missing_credentials_keep_it_out_and_lost_ones_keep_their_value() -> None:
    pool = Pool(ForwardNeed((URL,), "fraud", (Credential("x-key", "env", "KEY"),)), admitted=True)
    pool.find(Found({URL: (A,)}, None, ("KEY is not set",)))
    pool.probed({})
    assert (pool.fact().state, pool.fact().reason) == ("unready", "KEY is not set")
    pool.find(Found({URL: (A,)}, (("x-key", "k"),)))
    assert (pool.fact().state, pool.fact().headers) == ("ready", (("x-key", "k"),))
    pool.find(Found({URL: (A,)}, None, ("KEY is not set",)))
    assert (pool.fact().state, pool.fact().headers) == ("ready", (("x-key", "k"),))


def test_the_digest_is_of_the_upstream_set_alone() -> None:
    one = ForwardNeed(("http://a", "http://b"), "fraud")
    same = ForwardNeed(("http://b", "http://a"), "fraud", (Credential("x", "env", "Y"),))
    assert one.digest == same.digest
    assert one.digest != ForwardNeed(("http://a",), "fraud").digest
    assert one.digest != ForwardNeed(("http://a", "http://b"), "other").digest
