from __future__ import annotations

from router.web.pages import index
from router.web.schemas import ConfigView, ModelList, ModelView, ProblemView, RegionView, VersionView


def model(name: str, regions: dict[str, RegionView], problems: list[ProblemView]) -> ModelView:
    return ModelView(
        model=name,
        owner="",
        description="",
        region=None,
        stable=None,
        declared=None,
        effective=None,
        observed=None,
        regions=regions,
        versions={"v3": VersionView(state="ready", reason="", counts={}, resolved=None, digest="", endpoints=[])},
        config=ConfigView(revision="r", digest=None, problems=problems),
    )


def test_shows_weights_and_states() -> None:
    region = RegionView(stable="v3", declared={"v3": 90}, effective={"v3": 100, "v2": 0}, observed={})
    page = index(ModelList(models=[model("fraud", {"default": region}, [])], revision="abc", problems=[]))
    assert "<td>fraud<td>default<td>v3 (stable)<td>ready<td>90 %<td>100 %<td>–</tr>" in page
    assert "<td>v2<td>stands in<td>–<td>0 %" in page
    assert "abc" in page


def test_what_is_wrong_comes_first_and_everything_is_escaped() -> None:
    problem = ProblemView(file="f", path="", message="<script>alert(1)</script>")
    page = index(ModelList(models=[model("<b>", {}, [problem])], revision="<i>", problems=["<u>"]))
    assert not any(tag in page for tag in ("<script>", "<b>", "<i>", "<u>"))
    assert page.index("&lt;script&gt;") < page.index("<table>")
    assert "has no config that can be used" in page


def test_without_models() -> None:
    assert "No model is configured" in index(ModelList(models=[], revision="", problems=[]))
