"""The page at `/`: the models and their weights, as plain HTML that needs no script.

Rules:
1. Everything that comes from a config or a registry is escaped.
2. It says what is wrong before it says what is well.
"""

from __future__ import annotations

from html import escape

from router.web.schemas import ModelList, ModelView, Percentages

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .8rem; border-bottom: 1px solid #8884; vertical-align: top }
.wrong { color: #b3261e }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e6e6e6 } .wrong { color: #ff8a80 } }
"""


def index(models: ModelList) -> str:
    """The whole page."""
    wrong = [*models.problems, *(_line(model.model, problem.message) for model in models.models
                                 for problem in model.config.problems)]  # fmt: skip
    problems = "".join(f"<li class=wrong>{escape(text)}</li>" for text in wrong)
    rows = "".join(_rows(model) for model in models.models)
    table = (
        "<table><thead><tr><th>Model<th>Region<th>Version<th>State<th>Declared<th>Effective<th>Last 5 min"
        f"</tr></thead><tbody>{rows}</tbody></table>"
        if models.models
        else "<p>No model is configured.</p>"
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>canary-router</title><style>{STYLE}</style><h1>canary-router</h1>"
        f"<ul>{problems}</ul>{table}"
        f"<p>Configs at revision {escape(models.revision or 'not read yet')} · <a href=metrics>metrics</a> · "
        "<a href=api/v1/models>API</a></p></html>"
    )


def _line(model: str, message: str) -> str:
    return f"{model}: {message}"


def _rows(model: ModelView) -> str:
    if not model.regions:
        return f"<tr><td>{escape(model.model)}<td colspan=6 class=wrong>has no config that can be used</tr>"
    lines = []
    for region, view in model.regions.items():
        for version in view.effective:
            known = model.versions.get(version)
            cells = (
                model.model,
                region,
                f"{version} (stable)" if version == view.stable else version,
                known.state if known else "stands in",
                _share(view.declared, version),
                _share(view.effective, version),
                _share(view.observed, version),
            )
            lines.append("<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells) + "</tr>")
    return "".join(lines)


def _share(shares: Percentages, version: str) -> str:
    return f"{shares[version]:g} %" if version in shares else "–"
