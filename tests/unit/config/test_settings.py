"""router.yaml, variables and flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.notify_schema import EVENTS
from router.config.settings import Settings, check_router_file, flag_of, load_settings, variable_of
from router.config.settings_schema import RouterFile
from router.errors import InternalError, OperatorError

HASH = "0123456789abcdef" * 4


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


def refused(file: Path | None, environ: dict[str, str], flags: dict[str, object]) -> list[str]:
    """The problems that the settings are refused with."""
    with pytest.raises(OperatorError) as caught:
        load_settings(file, environ, flags)
    first, *lines = caught.value.message.split("\n  ")
    assert first == ("this setting is wrong:" if len(lines) == 1 else f"{len(lines)} settings are wrong:")
    return [line.replace(f"{file.parent}/", "") if file else line for line in lines]


def in_file(file: Path, text: str) -> list[str]:
    """The problems of router.yaml with `text`."""
    file.write_text(text, encoding="utf-8")
    return refused(file, {}, {})


def test_nothing_needs_to_be_set() -> None:
    found = load_settings(None, {}, {})
    assert found.listen == {"default": "0.0.0.0:8080"}
    assert found.admin == "127.0.0.1:9090"
    assert (found.workers, found.registry, found.trusted_proxies, found.tokens) == (0, None, (), ())
    assert (found.drain_delay, found.grace, found.read_token, found.config) == (0.0, 30.0, "loopback", None)
    assert found.state == Path.cwd() / "state"


def test_the_file_sets_every_key(file: Path) -> None:
    file.write_text(
        f"""\
listen: 127.0.0.1:1
region: eu-west
admin: "[::1]:2"
workers: 3
state: /var/lib/router
registry: https://mlflow.internal/base
model_sources: ["models:/fraud", /srv/models]
trusted_proxies: [10.0.0.0/8, "::1"]
drain_delay: 5s
grace: 1m
tokens:
  - {{name: alice, role: operator, sha256: {HASH.upper()}}}
read_token: required
notify:
  - {{url: "https://a.example/b?c=1", secret: {{env: SECRET}}}}
  - {{url: {{env: URL}}, kind: slack, on: [rollback]}}
""",
        encoding="utf-8",
    )
    found = load_settings(file, {}, {})
    assert [(told.url.text, told.url.env, told.kind, told.on) for told in found.notify] == [
        ("https://a.example/b?c=1", None, "webhook", EVENTS),
        (None, "URL", "slack", ("rollback",)),
    ]
    assert found.listen == {"eu-west": "127.0.0.1:1"}
    assert (found.admin, found.workers, found.state) == ("[::1]:2", 3, Path("/var/lib/router"))
    assert found.registry == "https://mlflow.internal/base"
    assert found.model_sources == ("models:/fraud", "/srv/models")
    assert found.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert (found.drain_delay, found.grace, found.read_token) == (5.0, 60.0, "required")
    assert [(token.name, token.role, token.sha256) for token in found.tokens] == [("alice", "operator", HASH)]
    assert set(RouterFile.model_fields) == {*Settings.model_fields} - {"config"} | {"region"}


def test_variables_set_every_key() -> None:
    found = load_settings(
        None,
        {
            "CANARY_ROUTER_LISTEN": "eu=:1, us=[::1]:2",
            "CANARY_ROUTER_ADMIN": "127.0.0.1:3",
            "CANARY_ROUTER_WORKERS": "auto",
            "CANARY_ROUTER_STATE": "/s",
            "CANARY_ROUTER_REGISTRY": "http://m",
            "CANARY_ROUTER_TRUSTED_PROXIES": "10.0.0.0/8,::1",
            "CANARY_ROUTER_DRAIN_DELAY": "1s",
            "CANARY_ROUTER_GRACE": "2s",
            "CANARY_ROUTER_TOKENS": f"alice:operator:{HASH},bob:viewer:{HASH}",
            "CANARY_ROUTER_READ_TOKEN": "required",
            "CANARY_ROUTER_NOTIFY": "slack=https://a/b,webhook=http://c",
            "CANARY_ROUTER_CONFIG": "configs",
            "CANARY_ROUTER_SERVICE_HOST": "made up by an orchestrator",
        },
        {},
    )
    assert found.listen == {"eu": ":1", "us": "[::1]:2"}
    assert (found.workers, found.state, found.registry) == (0, Path("/s"), "http://m")
    assert found.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert [token.name for token in found.tokens] == ["alice", "bob"]
    assert [(told.kind, told.url.text) for told in found.notify] == [("slack", "https://a/b"), ("webhook", "http://c")]
    assert found.config == Path.cwd() / "configs"
    assert load_settings(None, {"CANARY_ROUTER_REGION": "eu"}, {}).listen == {"eu": "0.0.0.0:8080"}


def test_a_flag_wins_over_a_variable_and_that_over_the_file(file: Path) -> None:
    file.write_text("workers: 1\ngrace: 1s\nadmin: 127.0.0.1:1\n", encoding="utf-8")
    environ = {"CANARY_ROUTER_WORKERS": "2", "CANARY_ROUTER_GRACE": "2s"}
    found = load_settings(file, environ, {"workers": "3", "grace": None, "region": None, "listen": ()})
    assert (found.workers, found.grace, found.admin) == (3, 2.0, "127.0.0.1:1")


def test_an_empty_variable_sets_nothing() -> None:
    assert load_settings(None, {"CANARY_ROUTER_WORKERS": ""}, {}).workers == 0


@pytest.mark.parametrize(
    ("flag", "listen"),
    [
        ("127.0.0.1:1", {"default": "127.0.0.1:1"}),
        (("127.0.0.1:1",), {"default": "127.0.0.1:1"}),
        (["eu=127.0.0.1:1", "us=127.0.0.1:0"], {"eu": "127.0.0.1:1", "us": "127.0.0.1:0"}),
        ({"eu": "127.0.0.1:1"}, {"eu": "127.0.0.1:1"}),
        ("eu=127.0.0.1:0,us=127.0.0.1:0", {"eu": "127.0.0.1:0", "us": "127.0.0.1:0"}),
    ],
)
def test_listeners_may_be_given_in_several_ways(flag: object, listen: dict[str, str]) -> None:
    assert load_settings(None, {}, {"listen": flag}).listen == listen


def test_flags_may_be_paths_and_lists() -> None:
    found = load_settings(None, {}, {"state": Path("/s"), "config": Path("c"), "trusted_proxies": ["::1", "10.0.0.1"]})
    assert (found.state, found.config) == (Path("/s"), Path.cwd() / "c")
    assert found.trusted_proxies == ("::1/128", "10.0.0.1/32")


def test_the_variable_that_names_a_router_for_commands_may_be_a_url() -> None:
    assert load_settings(None, {"CANARY_ROUTER_ADMIN": "http://127.0.0.1:7/"}, {}).admin == "127.0.0.1:7"
    assert load_settings(None, {"CANARY_ROUTER_ADMIN": "https://router.example/x"}, {}).admin == "127.0.0.1:9090"


@pytest.mark.parametrize("text", ["", "# only comments\n", "{}\n"])
def test_a_file_that_sets_nothing_means_the_defaults(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    assert load_settings(file, {}, {}) == load_settings(None, {}, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lisen: :1", "router.yaml:1:1: lisen: unknown key (did you mean 'listen'?)"),
        ("listen: x", "router.yaml:1:9: listen: 'x' is no address"),
        ("listen: {eu: x}", "router.yaml:1:14: listen.eu: 'x' is no address"),
        ("listen: {e u: ':1'}", "router.yaml:1:10: listen.'e u': 'e u' is not a name"),
        ("listen: {a: ':1', b: ':1'}", "router.yaml:1:9: listen: two regions cannot listen on the same address"),
        ("listen: {}", "router.yaml:1:9: listen: is empty; it needs at least one entry"),
        ("region: a b", "router.yaml:1:9: region: 'a b' is not a name"),
        ("admin: {}", "router.yaml:1:8: admin: must be text, not a map"),
        ("workers: 0", "router.yaml:1:10: workers: '0' must be auto or a number from 1 to 256"),
        ("workers: 257", "router.yaml:1:10: workers: '257' must be auto"),
        ("workers: []", "router.yaml:1:10: workers: must be a single value, not a list"),
        ("state:", "router.yaml:1:7: state: must be the path of a folder"),
        ("state: []", "router.yaml:1:8: state: must be text, not a list"),
        ("registry: sqlite:///x", "router.yaml:1:11: registry: must begin with http:// or https://"),
        ("trusted_proxies: [10.0.0.1/8]", "router.yaml:1:19: trusted_proxies[0]: '10.0.0.1/8' is no IP address or n"),
        ("model_sources: [fraud]", "router.yaml:1:17: model_sources[0]: 'fraud' must be models:/, models:/NAME"),
        ("trusted_proxies: 10.0.0.1", "router.yaml:1:18: trusted_proxies: must be a list, not text"),
        ("drain_delay: 5", "router.yaml:1:14: drain_delay: '5' is not a duration"),
        ("read_token: yes", "router.yaml:1:13: read_token: must be required or loopback, not 'yes'"),
        ("read_token: []", "router.yaml:1:13: read_token: must be required or loopback, not that"),
        ("tokens: [{name: a, role: root, sha256: x}]", "tokens[0].role: must be operator or viewer, not 'root'"),
        ("tokens: [{name: a}]", "router.yaml:1:10: tokens[0].role: this key is missing"),
        ("tokens: [secret]", "router.yaml:1:10: tokens[0]: must be a map, not text"),
        ("git: x", "router.yaml:1:1: git: this key is not acted on by this release"),
        ("- x", "router.yaml:1:1: the file must hold a map of keys, not a list"),
        ("a: [", "router.yaml:1:4: not YAML"),
    ],
)
def test_a_mistake_in_the_file_is_told_at_its_place(file: Path, text: str, expected: str) -> None:
    assert any(expected in problem for problem in in_file(file, text)), in_file(file, text)
    assert check_router_file(file)


def test_a_token_itself_is_never_taken_or_repeated(file: Path) -> None:
    (problem,) = in_file(file, "tokens: [{name: a, role: viewer, sha256: hunter2}]")
    assert "64 hexadecimal digits" in problem
    assert "hunter2" not in problem


def test_two_tokens_of_one_name_are_refused(file: Path) -> None:
    token = f"{{name: a, role: viewer, sha256: {HASH}}}"
    assert "two tokens have the same name" in in_file(file, f"tokens: [{token}, {token}]")[0]


def test_a_missing_file_is_named(file: Path) -> None:
    assert refused(file, {}, {}) == ["router.yaml:1:1: cannot be read: no such file or directory"]
    assert check_router_file(file)


def test_each_source_is_named_and_all_are_told_at_once(file: Path) -> None:
    file.write_text("workers: x\n", encoding="utf-8")
    environ = {"CANARY_ROUTER_WORKERS": "y", "CANARY_ROUTER_TOKENS": "a:b", "CANARY_ROUTER_LISTEN": "a=:1,a=:2"}
    flags: dict[str, object] = {"drain_delay": "1", "trusted_proxies": "x", "listen": {"a b": ":1"}, "state": "\n"}
    assert sorted(problem[:40] for problem in refused(file, environ, flags)) == [
        "--drain-delay: '1' is not a duration: 1 ",
        "--listen: 'a b': 'a b' is not a name: a ",
        "--state: must be the path of a folder",
        "--trusted-proxies: [0]: 'x' is no IP add",
        "CANARY_ROUTER_LISTEN: region 'a' is ther",
        "CANARY_ROUTER_TOKENS: a token is written",
        "CANARY_ROUTER_WORKERS: 'y' must be auto ",
        "router.yaml:1:10: workers: 'x' must be a",
    ]


def test_several_listeners_need_regions() -> None:
    assert refused(None, {}, {"listen": [":1", ":2"]}) == [
        "--listen: ':1' names no region; several listeners are eu-west=0.0.0.0:8080,us-east=…"
    ]


def test_what_contradicts_itself_is_refused(file: Path) -> None:
    file.write_text("listen: {a: 1.1.1.1:1}\n", encoding="utf-8")
    assert refused(file, {}, {"region": "x", "admin": "1.1.1.1:1"}) == [
        "--region: is for a single listener, and router.yaml:1:1: listen names regions itself",
        "--admin: router.yaml:1:1: listen has the same address; each needs a port of its own",
    ]
    assert refused(None, {}, {"admin": "0.0.0.0:8080"}) == [
        "--admin: listen (by default) has the same address; each needs a port of its own"
    ]
    assert refused(None, {}, {"listen": "127.0.0.1:9090"})
    assert load_settings(None, {}, {"admin": "127.0.0.1:0", "listen": "127.0.0.1:0"})


def test_a_flag_that_sets_nothing_known_is_a_bug() -> None:
    with pytest.raises(InternalError, match="'wrokers'"):
        load_settings(None, {}, {"wrokers": "1"})


def test_flags_and_variables_follow_from_the_key() -> None:
    assert variable_of("drain_delay") == "CANARY_ROUTER_DRAIN_DELAY"
    assert flag_of("drain_delay") == "--drain-delay"


def test_settings_survive_the_way_to_the_children(file: Path) -> None:
    file.write_text(f"tokens: [{{name: a, role: viewer, sha256: {HASH}}}]\ngrace: 250ms\n", encoding="utf-8")
    found = load_settings(file, {}, {"config": "c", "trusted_proxies": "10.0.0.0/8", "registry": "http://m"})
    assert Settings.model_validate_json(found.model_dump_json()) == found
    assert Settings.model_validate(found.model_dump(mode="json")) == found


@given(st.dictionaries(st.sampled_from([*RouterFile.model_fields, "config"]), st.text(max_size=20), max_size=4))
def test_any_text_gives_settings_or_problems(texts: dict[str, str]) -> None:
    for environ, flags in (({variable_of(key): text for key, text in texts.items()}, {}), ({}, dict(texts))):
        assert all(line.isprintable() for line in told(environ, flags).split("\n"))


def told(environ: Mapping[str, str], flags: Mapping[str, object]) -> str:
    """What is wrong with the settings; empty where nothing is."""
    try:
        assert load_settings(None, environ, flags).listen
    except OperatorError as error:
        return str(error)
    return ""
