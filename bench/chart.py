"""Draw what compare.py measured: our speed and the best peer's, as shares of the FMA peak.

    python bench/compare.py torch jax --rows conv --passes forward backward --json plain.json
    python bench/compare.py onnxruntime openvino ncnn mnn --rows conv --json prepared.json
    python bench/chart.py docs/speed.svg plain.json prepared.json

One panel a pass, one pair of bars a row. A peer whose error is too large is left out, as in the
means of compare.py. Needs matplotlib (the extra `demo`).
"""

import argparse
import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from compare import counts

TITLES = {
    "forward": "forward, weights anew each call",
    "prepared": "forward, weights prepared once",
    "backward": "backward, both gradients",
}
OURS, THEIRS, TEXT = "#1f6f8b", "#c9c5bd", "#555555"


def read(paths):
    """{(row, pass): (our share of the peak, the best peer's share, its name)}"""
    bars = {}
    for path in paths:
        with open(path) as file:
            measured = json.load(file)
        for record in measured["records"]:
            rate = 1e-9 * record["flops"] / measured["peak"]
            peers = {name: p["median"] for name, p in record["peers"].items() if counts(p)}
            best = min(peers, key=peers.get, default=None)
            share = rate / peers[best] if best else 0
            bars[record["row"], record["pass"]] = rate / record["ours"]["median"], share, best
    return bars


def draw(axes, title, bars, rows):
    for at, row in enumerate(rows):
        if row not in bars:
            continue
        ours, theirs, name = bars[row]
        axes.barh(at - 0.2, ours, 0.4, color=OURS)
        axes.barh(at + 0.2, theirs, 0.4, color=THEIRS)
        if name:
            text = axes.text(theirs + 0.05, at + 0.22, name, va="center", fontsize=6, color=TEXT)
            text.set_bbox(dict(facecolor="white", edgecolor="none", pad=0.2))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_title(title, fontsize=10)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.tick_params(labelsize=8, length=0)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", help="its ending says the format")
    parser.add_argument("measured", nargs="+", help="files that compare.py --json wrote")
    options = parser.parse_args()

    bars = read(options.measured)
    rows = list(dict.fromkeys(row for row, _ in bars))
    passes = [which for which in TITLES if any(which == key for _, key in bars)]
    plt.rcParams["svg.hashsalt"] = "fastconv"  # the same numbers give the same file
    figure, panels = plt.subplots(
        1,
        len(passes),
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(1.6 + 3.2 * len(passes), 7.2),
    )
    for axes, which in zip(panels[0], passes, strict=True):
        draw(
            axes,
            TITLES[which],
            {row: bars[row, which] for row in rows if (row, which) in bars},
            rows,
        )
    first = panels[0, 0]
    first.set_yticks(range(len(rows)), rows)
    first.set_ylim(len(rows) - 0.4, -0.6)
    figure.supxlabel(
        "speed as a share of the FMA peak, operations counted as the plain sum needs them",
        fontsize=9,
    )
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in (OURS, THEIRS)]
    figure.legend(
        handles,
        ["fastconv", "the best peer"],
        loc="upper right",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    figure.savefig(
        options.picture, metadata={"Date": None} if options.picture.endswith("svg") else None
    )


if __name__ == "__main__":
    main()
