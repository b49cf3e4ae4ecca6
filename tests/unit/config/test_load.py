"""Files → configs and problems."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.config.load import digest_of, load_model, load_regions, load_repository, unknown_regions
from router.config.schema import ModelConfig

REGIONS = ("eu-west", "us-east")

GOOD = """\
model: fraud
owner: risk-ml
versions:
  v3:
    model_uri: models:/fraud/3
  v4:
    upstreams:
      default: [http://fraud-v4:8080]
      eu-west: [http://10.0.3.4:8080, http://10.0.3.5:8080]
    registered: models:/fraud/4
    headers: {authorization: {env: FRAUD_TOKEN}}
stable: v3
regions:
  default: {v3: 100}
  eu-west: {v3: 90, v4: 10}
stickiness: {header: x-customer-id}
timeout: 2s
idempotent: true
fallback: stable
"""


def problems_of(text: str, *, name: str = "fraud", regions: Sequence[str] | None = REGIONS) -> list[str]:
    """The problems of a model file as `line:column: path: message`, without the file's name."""
    config, problems = load_model(name, text.encode(), file="f.yaml", regions=regions)
    assert (config is None) == bool(problems)
    return [str(problem).removeprefix("f.yaml:") for problem in problems]


def changed(old: str, new: str) -> str:
    """The good file with one place changed."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def write(root: Path, files: dict[str, str]) -> Path:
    """A config repository with `files`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def told(root: Path) -> list[str]:
    """The problems of the repository at `root`, with paths relative to it."""
    return [str(problem).replace(f"{root}/", "").replace(str(root), ".") for problem in load_repository(root).problems]


def test_a_good_file_gives_a_config() -> None:
    config, problems = load_model("fraud", GOOD.encode(), file="f.yaml", regions=REGIONS)
    assert problems == ()
    assert config is not None
    assert config.weights_in("eu-west") == {"v3": 9000, "v4": 1000}
    assert config.upstreams_in("v4", "us-east") == ("http://fraud-v4:8080",)
    assert (config.timeout, config.attempt_timeout, config.fallback) == (2.0, 1.0, True)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("owner:", "owmer:", "2:1: owmer: unknown key (did you mean 'owner'?)"),
        ("model: fraud\n", "", "1:1: model: this key is missing"),
        (
            "model: fraud\n",
            "model: froud\n",
            "1:8: model: the file is named after model 'fraud', and this says 'froud'",
        ),
        ("stable: v3", "stable: v5", "12:9: stable: no version 'v5' is defined under versions (there are 'v3', 'v4')"),
        ("stable: v3", "stable: {eu-west: v3}", "12:9: stable: needs a 'default'"),
        ("stable: v3", "stable: {default: v3, eu-west: vv4}", "12:32: stable.eu-west: no version 'vv4' is defined"),
        (
            "stable: v3",
            "stable: {default: v3, eu-wst: v4}",
            "12:23: stable.eu-wst: regions.yaml has no region 'eu-wst'",
        ),
        ("stable: v3", "stable: [v3]", "12:9: stable: must be a map, not a list"),
        ("v4: 10}", "v4: 20}", "15:12: regions.eu-west: the weights sum to 110%, not to 100%"),
        ("{v3: 90, v4: 10}", "{v4: 10}", "sum to 10%, not to 100% (is 'v3' missing, with 90%?)"),
        ("{v3: 90, v4: 10}", "{}", "sum to 0%, not to 100% (is 'v3' missing, with 100%?)"),
        ("v4: 10}", "v4: 9.99}", "the weights sum to 99.99%, not to 100%"),
        ("v4: 10}", "v5: 10}", "15:21: regions.eu-west.v5: no version 'v5' is defined"),
        ("v4: 10}", "v4: 0.1}", "15:25: regions.eu-west.v4: a bare 0.1 is ambiguous: was '10%' or '0.1%' meant?"),
        ("v4: 10}", "v4: [10]}", "15:25: regions.eu-west.v4: must be a single value, not a list"),
        ("{v3: 90, v4: 10}", "90", "15:12: regions.eu-west: must be a map, not text"),
        ("  eu-west: {", "  eu-wset: {", "15:3: regions.eu-wset: regions.yaml has no region 'eu-wset' (did you mean"),
        ("      eu-west: [", "      eu-wset: [", "9:7: versions.v4.upstreams.eu-wset: regions.yaml has no region"),
        (
            "[http://fraud-v4:8080]",
            "http://fraud-v4:8080",
            "8:16: versions.v4.upstreams.default: must be a list, not t",
        ),
        ("[http://fraud-v4:8080]", "[]", "8:16: versions.v4.upstreams.default: the list is empty"),
        ("10.0.3.5:", "10.0.3.4:", "9:16: versions.v4.upstreams.eu-west: the same URL is here twice"),
        ("10.0.3.5:8080", "10.0.3.5:x", "9:39: versions.v4.upstreams.eu-west[1]: host or port of the URL cannot"),
        ("models:/fraud/3", "models:/fraud/Staging", "5:16: versions.v3.model_uri: 'Staging' is a stage"),
        ("models:/fraud/4", "models:/fraud@4", "10:17: versions.v4.registered: alias '4' looks like version 4"),
        (
            "    model_uri: models:/fraud/3",
            "    {}",
            "5:5: versions.v3: needs exactly one of model_uri and upstreams; it",
        ),
        (
            "    registered:",
            "    model_uri:",
            "10:5: versions.v4: needs exactly one of model_uri and upstreams; it has both",
        ),
        ("models:/fraud/3\n", "models:/fraud/3\n    headers: {}\n", "6:5: versions.v3.headers: is for upstreams"),
        (
            "models:/fraud/3\n",
            "models:/fraud/3\n    upstream_model: x\n",
            "versions.v3.upstream_model: is for upstreams",
        ),
        ("{env: FRAUD_TOKEN}", "Bearer hunter2", "11:30: versions.v4.headers.authorization: a credential is never"),
        (
            "{env: FRAUD_TOKEN}",
            "{}",
            "11:30: versions.v4.headers.authorization: needs exactly one of env and file; it ha",
        ),
        ("{env: FRAUD_TOKEN}", "{env: A, file: /b}", "11:39: versions.v4.headers.authorization: needs exactly one of"),
        ("{env: FRAUD_TOKEN}", "{file: }", "11:37: versions.v4.headers.authorization.file: must be the path of a file"),
        (
            "{env: FRAUD_TOKEN}",
            "{env: A}, Authorization: {env: B}",
            "the same header is here twice; the first is in line",
        ),
        ("authorization", "content-length", "11:15: versions.v4.headers.content-length: 'content-length' belongs to"),
        ("{header: x-customer-id}", "{}", "16:13: stickiness: needs exactly one of header and cookie; it has none"),
        ("x-customer-id", "x, cookie: c", "16:25: stickiness: needs exactly one of header and cookie; it has both"),
        ("{header: x-customer-id}", "x-customer-id", "16:13: stickiness: must be a map, not text"),
        ("{header: x-customer-id}", "", "16:12: stickiness: must be a map, not empty"),
        ("timeout: 2s", "timeout: 2", "17:10: timeout: '2' is not a duration: 2 of what?"),
        (
            "timeout: 2s",
            "timeout: 2s\nattempt_timeout: 3s",
            "18:18: attempt_timeout: is longer than timeout, the deadline",
        ),
        ("timeout: 2s", "max_body: 0", "17:11: max_body: must be more than 0, which no prediction would fit into"),
        ("timeout: 2s", "buffer: 11MiB", "17:9: buffer: is larger than max_body (10485760 bytes)"),
        ("timeout: 2s", "max_body: 1KiB\nbuffer: 1MiB", "18:9: buffer: is larger than max_body (1024 bytes)"),
        ("idempotent: true\n", "", "18:11: fallback: needs idempotent: true"),
        ("idempotent: true\n", "idempotent: false\n", "19:11: fallback: needs idempotent: true"),
        ("idempotent: true\n", "idempotent: yes\n", "18:13: idempotent: must be true or false, not 'yes'"),
        ("fallback: stable", "fallback: v3", "19:11: fallback: can only be 'stable'"),
        ("timeout: 2s", "git: x", "17:1: git: this key is not acted on by this release"),
        ("timeout: 2s", "batching: {}", "17:1: batching: unknown key"),
        ("    registered:", "    registred:", "10:5: versions.v4.registred: unknown key (did you mean 'registered'?)"),
        ("{env: FRAUD_TOKEN}", "{envv: X, env: Y}", "headers.authorization.envv: unknown key (did you mean 'env'?)"),
        ("  v3:\n", "  v 3:\n", "4:3: versions.'v 3': 'v 3' is not a name"),
        ("timeout: 2s", "timeout: 2s\ntimeout: 3s", "18:1: timeout: this key is here twice; the first is in line 17"),
    ],
)
def test_each_mistake_is_told_at_its_place(old: str, new: str, expected: str) -> None:
    assert any(expected in problem for problem in problems_of(changed(old, new))), problems_of(changed(old, new))


def test_one_mistake_is_one_problem() -> None:
    assert problems_of(changed("v4: 10}", "v4: ten}")) == [
        "15:25: regions.eu-west.v4: 'ten' is not a weight; write a percentage such as 10, 10% or 0.25%"
    ]
    assert len(problems_of(changed("timeout: 2s", "timeout: *x"))) == 1
    assert len(problems_of(changed("fallback: stable", "fallback: *x"))) == 1
    assert len(problems_of(changed("stable: v3\n", "stable: *x\n"))) == 1
    assert len(problems_of(changed("stable: v3\n", "stable: {default: [v3]}\n"))) == 1
    assert len(problems_of(changed("timeout: 2s", "timeout: 2x\nattempt_timeout: 1s\nmax_body: 1x\nbuffer: 1KiB"))) == 2


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("owner", "owmer").replace("stable: v3", "stable: v5").replace("v4: 10}", "v4: 11}")
    assert [problem.split(":")[0] for problem in problems_of(text)] == ["2", "12", "15"]


def test_upstreams_are_no_single_url() -> None:
    text = "model: fraud\nversions: {v3: {upstreams: http://a}}\nstable: v3\n"
    assert problems_of(text) == [
        "2:28: versions.v3.upstreams: must be a list of URLs, [http://…], or a map of such lists by region"
    ]


def test_a_number_of_problems_is_enough() -> None:
    text = GOOD + "".join(f"k{n}: 1\n" for n in range(20_000))
    *_, last = problems = problems_of(text)
    assert len(problems) == 101
    assert "only the first 100" in last


def test_too_many_versions_or_regions_are_refused() -> None:
    versions = "".join(f"  w{n}: {{model_uri: /x}}\n" for n in range(300))
    assert any(
        "too many entries; at most 256" in found
        for found in problems_of(changed("versions:\n", "versions:\n" + versions))
    )
    upstreams = "".join(f"      r{n}: [http://a]\n" for n in range(300))
    text = changed("      default: [http://fraud-v4:8080]\n", upstreams)
    assert any("names more than 256 regions" in found for found in problems_of(text, regions=None))


def test_nothing_is_made_of_what_is_no_map() -> None:
    assert problems_of("- a\n") == ["1:1: the file must hold a map of keys, not a list"]
    assert problems_of("fraud\n") == ["1:1: the file must hold a map of keys, not text"]
    assert problems_of("*x\n")[0].startswith("1:1: aliases")
    assert problems_of("") == ["1:1: the file is empty"]


@pytest.mark.parametrize("name", ["-x", "..", "a b", "a\n", "x" * 200])
def test_a_files_name_must_be_a_models_name(name: str) -> None:
    _, problems = load_model(name, GOOD.encode(), file="f.yaml", regions=None)
    assert "the file's name is the model's name" in problems[0].message
    assert problems[0].model == ""


@pytest.mark.parametrize(
    ("old", "regions", "expected"),
    [
        ("", REGIONS, ["no upstream for region 'us-east', where this version may get traffic"]),
        ("", None, ["no upstream for region 'default', 'us-east'"]),
        ("us-east: {v3: 50, v4: 50}", ("eu-west",), []),
        ("us-east: {v3: 50, v4: 50}", REGIONS, []),
        ("stable: v3", REGIONS, ["no upstream for region 'us-east'"]),
    ],
)
def test_a_version_has_upstreams_wherever_it_may_get_traffic(
    old: str, regions: Sequence[str] | None, expected: list[str]
) -> None:
    text = """\
model: fraud
versions:
  v3: {model_uri: models:/fraud/3}
  v4: {upstreams: {eu-west: [http://a]}}
stable: v3
regions:
  default: {v3: 100, v4: 0}
  eu-west: {v4: 100}
  us-east: {v3: 50, v4: 50}
"""
    if old.startswith("us-east"):
        text = text.replace(f"  {old}\n", "")
    elif old:
        text = text.replace("stable: v3", "stable: {default: v3, us-east: v4}").replace(
            "  us-east: {v3: 50, v4: 50}\n", ""
        )
    elif regions is None:
        text = text.replace("{v3: 100, v4: 0}", "{v3: 99, v4: 1}")
    found = [
        problem
        for problem in problems_of(text, regions=regions)
        if "names" not in problem and "has no region" not in problem
    ]
    assert len(found) == len(expected)
    for problem, words in zip(found, expected, strict=True):
        assert words in problem


def test_a_long_list_of_regions_is_cut() -> None:
    regions = [f"r{n}" for n in range(9)]
    text = "model: fraud\nversions: {v4: {upstreams: {eu: [http://a]}}}\nstable: v4\n"
    found = problems_of(text, regions=[*regions, "eu"])
    assert "'r0', 'r1', 'r2', 'r3', 'r4', …, where" in found[0]


def test_regions_are_optional() -> None:
    text = "model: fraud\nversions: {v3: {model_uri: /srv/x}}\nstable: v3\n"
    assert problems_of(text) == []
    assert problems_of(GOOD.replace("eu-west", "anywhere"), regions=None) == []


def test_default_needs_not_be_among_the_regions() -> None:
    assert problems_of(GOOD, regions=("eu-west",)) == []


def test_relative_paths_start_at_the_repository(tmp_path: Path) -> None:
    text = changed("models:/fraud/3", "./fraud/v3").replace("{env: FRAUD_TOKEN}", "{file: secrets/token}")
    for root, file in [(tmp_path, "x"), (None, str(tmp_path / "models" / "fraud.yaml"))]:
        config, problems = load_model("fraud", text.encode(), file=file, regions=None, root=root)
        assert problems == ()
        assert config is not None
        assert config.versions["v3"].model_uri == str(tmp_path / "fraud" / "v3")
        assert config.versions["v4"].headers["authorization"].file == str(tmp_path / "secrets" / "token")


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    for text in (
        changed("{env: FRAUD_TOKEN}", "hunter2"),
        changed("{env: FRAUD_TOKEN}", "{env: Bearer hunter2}"),
        changed("http://fraud-v4:8080", "http://user:hunter2@fraud-v4"),
        changed("{authorization: {env: FRAUD_TOKEN}}", "hunter2"),
    ):
        assert problems_of(text)
        assert not any("hunter2" in problem for problem in problems_of(text))


def load(text: str) -> ModelConfig:
    """The config in `text`, which is good."""
    config, problems = load_model("fraud", text.encode(), file="f", regions=None)
    assert problems == ()
    assert config is not None
    return config


def test_a_digest_follows_the_meaning_not_the_spelling() -> None:
    base = digest_of(load(GOOD))
    assert re.fullmatch("[0-9a-f]{64}", base)
    same = GOOD.replace("v4: 10}", "v4: 10.0%}  # comment").replace("timeout: 2s", "timeout: 2000ms")
    assert digest_of(load(same)) == base
    assert (
        digest_of(
            load(GOOD.replace("  default: {v3: 100}\n", "").replace("stickiness", "  default: {v3: 100}\nstickiness"))
        )
        == base
    )
    assert digest_of(load(GOOD.replace("v3: 90, v4: 10", "v3: 91, v4: 9"))) != base


def test_a_digest_follows_the_order_of_versions() -> None:
    one = "model: fraud\nversions: {v3: {model_uri: /a}, v4: {model_uri: /b}}\nstable: v3\n"
    other = "model: fraud\nversions: {v4: {model_uri: /b}, v3: {model_uri: /a}}\nstable: v3\n"
    assert digest_of(load(one)) != digest_of(load(other))


def test_a_repository_gives_every_model(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "regions.yaml": "regions: [eu-west, us-east]\n",
            "router.yaml": "workers: 2\n",
            "models/fraud.yaml": GOOD,
            "models/churn.yaml": GOOD.replace("model: fraud", "model: churn"),
            "models/README.md": "text",
            "models/.fraud.yaml.swp": "text",
            "models/fraud.yaml~": "text",
            ".git/config.yml": "text",
        },
    )
    loaded = load_repository(root)
    assert loaded.problems == ()
    assert list(loaded.configs) == ["churn", "fraud"]
    assert loaded.sources["fraud"] == GOOD
    assert (loaded.examined, loaded.regions, loaded.complete) == (2, REGIONS, True)


def test_one_bad_file_stops_no_other_model(tmp_path: Path) -> None:
    root = write(tmp_path, {"models/fraud.yaml": GOOD, "models/bad.yaml": "model: [", "models/-x.yaml": GOOD})
    loaded = load_repository(root)
    assert list(loaded.configs) == ["fraud"]
    assert {(problem.file, problem.model) for problem in loaded.problems} == {
        (str(root / "models/bad.yaml"), "bad"),
        (str(root / "models/-x.yaml"), ""),
    }
    assert loaded.complete


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    root = write(tmp_path, {"models/..2026/fraud.yaml": GOOD})
    (root / "models/..data").symlink_to("..2026")
    (root / "models/fraud.yaml").symlink_to("..data/fraud.yaml")
    assert told(root) == []
    assert list(load_repository(root).configs) == ["fraud"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"models/fraud.yml": GOOD}, "models/fraud.yml:1:1: the ending must be '.yaml'; rename it to fraud.yaml"),
        ({"models/fraud.YAML": GOOD}, "models/fraud.YAML:1:1: the ending must be '.yaml'"),
        ({"models/team/fraud.yaml": GOOD}, "models/team:1:1: is a folder; models lie directly in models/"),
        ({"models/ok.yaml/x": ""}, "models/ok.yaml:1:1: cannot be read: not a regular file"),
        ({"regions.yml": ""}, "regions.yml:1:1: no file of this name is read (did you mean 'regions.yaml'?)"),
        ({"region.yaml": ""}, "region.yaml:1:1: no file of this name is read (did you mean 'regions.yaml'?)"),
        ({"regions.yaml": "regions: [eu west]"}, "regions.yaml:1:11: regions[0]: 'eu west' is not a name"),
        ({"regions.yaml": "regions: [eu, eu]"}, "regions.yaml:1:15: regions[1]: this region is here twice"),
        ({"regions.yaml": "regions: []"}, "regions.yaml:1:10: regions: is empty; it needs at least one entry"),
        ({"regions.yaml": "regions: eu"}, "regions.yaml:1:10: regions: must be a list, not text"),
        ({"regions.yaml": "region: eu"}, "regions.yaml:1:1: region: unknown key (did you mean 'regions'?)"),
        ({"regions.yaml": "- eu"}, "regions.yaml:1:1: the file must hold a map of keys, not a list"),
        ({"regions.yaml": "regions: [{a: b}]"}, "regions.yaml:1:11: regions[0]: must be text, not a map"),
        ({"regions.yaml": "regions: ["}, "regions.yaml:1:10: not YAML: the file ends before what begins here"),
        ({"regions.yaml/x": ""}, "regions.yaml:1:1: cannot be read: not a regular file"),
    ],
)
def test_nothing_that_looks_like_a_config_is_skipped_in_silence(
    tmp_path: Path, files: dict[str, str], expected: str
) -> None:
    root = write(tmp_path, {"models/good.yaml": GOOD.replace("model: fraud", "model: good"), **files})
    assert any(problem.startswith(expected) for problem in told(root)), told(root)
    assert list(load_repository(root).configs) == ["good"]


def test_what_cannot_be_read_is_a_problem_of_its_model(tmp_path: Path) -> None:
    root = write(tmp_path, {"models/good.yaml": GOOD.replace("model: fraud", "model: good")})
    (root / "models/gone.yaml").symlink_to("nowhere")
    os.mkfifo(root / "models/pipe.yaml")
    loaded = load_repository(root)
    assert [(problem.model, problem.message) for problem in loaded.problems] == [
        ("gone", "cannot be read: no such file or directory"),
        ("pipe", "cannot be read: not a regular file"),
    ]
    assert list(loaded.configs) == ["good"]


def test_a_link_that_leads_nowhere_is_no_absent_file(tmp_path: Path) -> None:
    root = write(tmp_path, {"models/fraud.yaml": GOOD})
    (root / "regions.yaml").symlink_to("nowhere")
    assert told(root) == ["regions.yaml:1:1: cannot be read: no such file or directory"]


def test_a_large_file_is_read_no_further_than_it_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, {"models/big.yaml": "#" * (5 * 1024 * 1024)})
    assert "more than 1048576 bytes" in told(root)[0]


@pytest.mark.parametrize(
    ("files", "at", "expected"),
    [
        ({}, "nowhere", "./nowhere:1:1: cannot be read as a folder of configs: no such file or directory"),
        ({}, ".", ".:1:1: holds no folder 'models'"),
        ({"models": "text"}, ".", "models:1:1: cannot be read as a folder of configs: not a directory"),
        ({"file": "text"}, "file", "file:1:1: cannot be read as a folder of configs: not a directory"),
        ({"models/x.txt": ""}, ".", "models:1:1: holds no model; write models/<model>.yaml"),
        ({"models/fraud.yaml": GOOD}, "models", "models:1:1: holds no folder 'models', where each model has its"),
    ],
)
def test_a_folder_without_models_is_told_and_takes_nothing_out_of_service(
    tmp_path: Path, files: dict[str, str], at: str, expected: str
) -> None:
    write(tmp_path, files)
    loaded = load_repository(tmp_path / at)
    (problem,) = loaded.problems
    shown = str(problem).replace(f"{tmp_path}/", "").replace(str(tmp_path), ".")
    assert shown.startswith(expected.removeprefix("./"))
    assert (loaded.complete, loaded.examined, problem.model) == (False, 0, "")


def test_the_folder_above_is_suggested(tmp_path: Path) -> None:
    root = write(tmp_path, {"models/fraud.yaml": GOOD})
    (problem,) = load_repository(root / "models").problems
    assert f"(did you mean '{root}'?)" in problem.message


def test_a_bad_regions_file_lets_models_be_judged_without_it(tmp_path: Path) -> None:
    root = write(tmp_path, {"models/fraud.yaml": GOOD, "regions.yaml": "regions: ["})
    loaded = load_repository(root)
    assert list(loaded.configs) == ["fraud"]
    assert loaded.regions is None


def test_regions_are_read() -> None:
    assert load_regions(b"regions: [eu-west, us-east]", file="regions.yaml") == (REGIONS, ())
    found, problems = load_regions(b"regions: *x", file="regions.yaml")
    assert found is None
    assert len(problems) == 1


def test_a_region_that_is_served_must_be_one_of_them() -> None:
    assert unknown_regions(("eu-west", "default"), REGIONS) == []
    assert unknown_regions(("eu-wset", "us-east"), REGIONS) == ["eu-wset"]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_anything_gives_a_config_or_problems(data: str | bytes) -> None:
    raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    config, problems = load_model("fraud", raw, file="f", regions=REGIONS)
    assert (config is None) == bool(problems)
    load_regions(raw, file="r")


WORDS = st.sampled_from(
    ["v3", "v4", "default", "eu-west", "100", "10%", "0.1", "", "true", "stable", "2s", "1MiB", "*x", "[a]", "{a: b}",
     "{v3: 100}", "[http://a]", "models:/a/3", "models:/a/Staging", "{env: A}", "x y", "-1", "{default: v3}", "[]",
     "{}"]
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(GOOD.splitlines()) - 1), WORDS), max_size=4), st.booleans())
def test_any_line_may_be_spoilt(spoilt: list[tuple[int, str]], regions: bool) -> None:
    lines = GOOD.splitlines()
    for index, word in spoilt:
        head, colon, _ = lines[index].partition(":")
        lines[index] = f"{head}{colon} {word}"
    text = "\n".join(lines).encode()
    config, problems = load_model("fraud", text, file="f", regions=REGIONS if regions else None)
    assert (config is None) == bool(problems)
    for problem in problems:
        assert 1 <= problem.line <= len(lines)
        assert str(problem).isprintable()
    if config is not None:
        for region in ("eu-west", "us-east", "default"):
            assert sum(config.weights_in(region).values()) == 10_000
            assert config.stable_in(region) in config.versions
