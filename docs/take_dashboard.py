"""Draw the dashboard into docs/images/dashboard.png from a Prometheus that scrapes a running server.

    make serve                                                        # the server, with any load on it
    prometheus --config.file=CONFIG --web.listen-address=127.0.0.1:9090
    python docs/take_dashboard.py --prometheus http://127.0.0.1:9090 --minutes 10

Every panel of docker/grafana/dashboards/bindchat.json asks Prometheus its own queries and is drawn by matplotlib, as
Grafana would draw it from the same answers; this is no picture of Grafana. Needs the packages of `make setup-dev`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, PercentFormatter

HERE = Path(__file__).parent
DASHBOARD = HERE.parent / "docker" / "grafana" / "dashboards" / "bindchat.json"
IMAGE = HERE / "images" / "dashboard.png"
RATE_INTERVAL_S = 60  # Grafana computes $__rate_interval: at least four scrapes
STEP_S = 5
COLUMNS = 2
UNITS = {
    "s": EngFormatter("s"),
    "Bps": EngFormatter("B/s"),
    "bytes": EngFormatter("B"),
    "percentunit": PercentFormatter(1.0),
    "reqps": FuncFormatter(lambda value, _: f"{value:g}/s"),
}


def asked(http: httpx.Client, expression: str, start_s: float, end_s: float) -> list[dict[str, Any]]:
    """Return the series that a query of a panel gives over the span."""
    query = expression.replace("$__rate_interval", f"{RATE_INTERVAL_S}s")
    answer = http.get("/api/v1/query_range", params={"query": query, "start": start_s, "end": end_s, "step": STEP_S})
    series: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
    return series


def legend(form: str, labels: dict[str, str]) -> str:
    """Fill `{{label}}` in as Grafana does."""
    for name, value in labels.items():
        form = form.replace(f"{{{{{name}}}}}", value)
    return form


def draw(axes: Axes, panel: dict[str, Any], http: httpx.Client, span: tuple[float, float]) -> int:
    """Draw one panel and return how many series it has."""
    num_series = 0
    for target in panel["targets"]:
        for series in asked(http, target["expr"], *span):
            points = np.array([(float(at), float(value)) for at, value in series["values"]])
            minutes = (points[:, 0] - span[0]) / 60
            axes.plot(minutes, points[:, 1], label=legend(target["legendFormat"], series["metric"]), linewidth=1.2)
            num_series += bool(np.isfinite(points[:, 1]).any())  # a quantile of nothing is not a number
    axes.set_title(panel["title"], fontsize=10, loc="left")
    axes.set_xlim(0, (span[1] - span[0]) / 60)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)
    if (unit := UNITS.get(panel["fieldConfig"]["defaults"]["unit"])) is not None:
        axes.yaxis.set_major_formatter(unit)
    if num_series:
        axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
        axes.legend(fontsize=7, ncols=3, loc="upper left", framealpha=0.7)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="gray")
    return num_series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--caption", default="")
    arguments = parser.parse_args()
    dashboard = json.loads(DASHBOARD.read_text())
    end_s = time.time()
    span = (end_s - arguments.minutes * 60, end_s)
    num_rows = -(-len(dashboard["panels"]) // COLUMNS)
    figure, places = plt.subplots(num_rows, COLUMNS, figsize=(13, 2.6 * num_rows), layout="constrained")
    with httpx.Client(base_url=arguments.prometheus, timeout=30) as http:
        counts = {
            p["title"]: draw(axes, p, http, span) for axes, p in zip(places.flat, dashboard["panels"], strict=False)
        }
    for axes in places.flat[len(dashboard["panels"]) :]:
        axes.set_axis_off()
    figure.supxlabel("minutes")
    figure.suptitle(f"{dashboard['title']}: {arguments.caption}" if arguments.caption else dashboard["title"])
    figure.savefig(IMAGE, dpi=80)
    empty = [title for title, count in counts.items() if not count]
    print(f"{IMAGE.relative_to(HERE.parent)}: {len(counts)} panels, without data: {', '.join(empty) or 'none'}")
    sys.exit(1 if len(empty) == len(counts) else 0)


if __name__ == "__main__":
    main()
