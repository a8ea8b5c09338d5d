"""Draws the picture that explains the method: what is observed while learning, and what is left at diagnosis.

python scripts/diagram.py [--output results/figures/method.svg]
"""

import argparse
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from vkd_pyro.reporting.figures.style import BLUE, GRAY, GREEN, INK, STYLE, VERMILLION

FIGURE = Path(__file__).resolve().parent.parent / "results" / "figures" / "method.svg"
RADIUS = 0.3
PLACES = {"$x_I$": (0.5, 1.2), "$z$": (2.1, 1.2), "$y$": (3.7, 2.1), "$x_T$": (3.7, 0.3)}
UNDER = {"$x_I$": "X-ray", "$y$": "findings", "$x_T$": "report"}


@rc_context(STYLE | {"text.parse_math": True, "axes.grid": False, "mathtext.fontset": "cm"})
def diagram() -> Figure:
    """Two panels: the program and its guide; the image-only model."""
    figure = Figure(figsize=(8.4, 3.0))
    learning, diagnosis = figure.subplots(1, 2, width_ratios=(1, 1))
    for axes, title, observed in (
        (learning, "Learning: X-ray, report, and findings where they are known", {"$x_I$", "$y$", "$x_T$"}),
        (diagnosis, "Diagnosis: the X-ray alone", {"$x_I$"}),
    ):
        axes.set(xlim=(-0.1, 5.0), ylim=(-0.45, 2.75), aspect="equal")
        axes.axis("off")
        axes.set_title(title)
        nodes(axes, observed | {"$z$", "$y$"}, observed)
        arrow(axes, "$x_I$", "$z$", BLUE)
        arrow(axes, "$z$", "$y$", INK)
        arrow(axes, "$x_I$", "$y$", GRAY, bend=-0.22)
        say(axes, (1.3, 0.62), "prior\n$p(z \\mid x_I)$", BLUE)
        say(axes, (3.05, 1.38), "$W_z z$", INK, ha="left")
        say(axes, (1.5, 2.0), "$W_h h(x_I)$", GRAY)
    arrow(learning, "$z$", "$x_T$", GREEN, bend=0.12)
    arrow(learning, "$x_T$", "$z$", VERMILLION, bend=0.3, dashed=True)
    say(learning, (3.35, 0.78), "guide $q(z \\mid x_T)$", VERMILLION, ha="left")
    say(learning, (2.55, 0.02), "words $p(x_T \\mid z, h)$", GREEN, ha="right")
    say(learning, (0.1, -0.4), "KL: the report's $z$ pulls the X-ray's", INK, ha="left")
    say(
        diagnosis,
        (0.1, -0.4),
        "draw $z$ 100 times, average $p(y \\mid x_I, z)$:\nprobability, and how sure",
        INK,
        ha="left",
    )
    return figure


def nodes(axes: Axes, names: set[str], observed: set[str]) -> None:
    """Circles; what is observed is shaded."""
    for name in sorted(names):
        axes.add_patch(
            Circle(PLACES[name], RADIUS, facecolor="#d9dce1" if name in observed else "white", edgecolor=INK)
        )
        axes.text(*PLACES[name], name, ha="center", va="center", fontsize=12, color="black")
        if name in UNDER:
            x, y = PLACES[name]
            inward = name == "$x_I$"
            place = (x, y - RADIUS - 0.18) if inward else (x + RADIUS + 0.1, y)
            axes.text(*place, UNDER[name], ha="center" if inward else "left", va="center")


def arrow(axes: Axes, start: str, end: str, color: str, bend: float = 0.0, dashed: bool = False) -> None:
    """From the edge of one circle to that of another."""
    look = {"arrowstyle": "-|>", "mutation_scale": 11, "lw": 1.3, "color": color, "shrinkA": 17, "shrinkB": 17}
    style = "--" if dashed else "-"
    axes.add_patch(
        FancyArrowPatch(PLACES[start], PLACES[end], connectionstyle=f"arc3,rad={bend}", linestyle=style, **look)
    )


def say(axes: Axes, place: tuple[float, float], text: str, color: str, ha: str = "center") -> None:
    axes.text(*place, text, color=color, ha=ha, va="bottom", fontsize=8.5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FIGURE)
    diagram().savefig(parser.parse_args().output, facecolor="white")
