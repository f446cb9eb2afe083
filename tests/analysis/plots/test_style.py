"""The look of plots: distinct without colour, numbers and names in a readable form."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from numa_bench.analysis.plots import style


def color_lightness(color: str) -> float:
    """CIE L* of an sRGB colour, 0 black to 100 white (IEC 61966-2-1, CIE 15)."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return 116 * y ** (1 / 3) - 16 if y > 216 / 24389 else y * 24389 / 27


def test_placements_differ_without_colour() -> None:
    """In grey, and for those who see no hue: by lightness, and always by marker and hatch."""
    looks = style.PLACEMENTS
    assert len({look.marker for look in looks.values()}) == len(looks)
    assert len({look.hatch for look in looks.values()}) == len(looks)
    shades = {name: color_lightness(look.color) for name, look in looks.items()}
    for a, b in itertools.combinations(shades, 2):
        assert abs(shades[a] - shades[b]) > 7, (a, b)
    for a, b in itertools.combinations(("local", "remote", "unbound"), 2):
        assert abs(shades[a] - shades[b]) > 20, (a, b)
    assert len({look.hatch for _, look in style.STAGES.values()}) == len(style.STAGES)


def test_an_affinity_keeps_the_colour_and_changes_the_rest() -> None:
    labels = ["remote", "local (core-complex)", "local", "local (socket)", "local (physcpu 0-3)"]
    looks = [style.get_placement_style(label) for label in labels[1:]]

    assert {look.color for look in looks} == {style.PLACEMENTS["local"].color}
    assert len({look.marker for look in looks}) == len(looks)
    assert style.order_placements(labels)[0] == "local"
    assert style.order_placements(labels)[-1] == "remote"


def test_hops_keep_the_colour_and_change_hatch_and_line() -> None:
    labels = ["remote_2_hops", "unbound", "remote_3_hops", "local/remote_2_hops", "remote", "local"]

    looks = [style.get_placement_style(f"remote{more}") for more in ("", "_2_hops", "_3_hops")]

    assert {look.color for look in looks} == {style.PLACEMENTS["remote"].color}
    assert len({look.hatch for look in looks}) == len({look.line for look in looks}) == 3
    two = style.get_placement_style("local/remote_2_hops")
    assert two.color == style.PLACEMENTS["local/remote"].color
    assert style.order_placements(labels) == [
        *("local", "local/remote_2_hops", "remote", "remote_2_hops", "remote_3_hops", "unbound")
    ]


def test_lightness_is_that_of_cie() -> None:
    assert color_lightness("#000000") == 0
    assert color_lightness("#ffffff") == pytest.approx(100)
    assert color_lightness("#777777") == pytest.approx(50.03, abs=0.05)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12345.0, "12.3 k"), (999.9, "1.00 k"), (0.4567, "0.457"), (-2.5e6, "−2.50 M"),
     (640.0, "640"), (math.nan, "not measured")],
)  # fmt: skip
def test_numbers_as_people_read_them(value: float, text: str) -> None:
    assert style.format_number(value).replace(style.THIN, " ") == text


@pytest.mark.parametrize(
    ("change", "text"),
    [(-0.0721, "−7.2 %"), (0.0, "0.0 %"), (0.011, "+1.1 %"), (-0.0001, "0.0 %")],
)
def test_changes_as_people_read_them(change: float, text: str) -> None:
    assert style.format_percent(change).replace(style.THIN, " ") == text


def test_names_become_one_short_line() -> None:
    assert style.shorten_middle("a\nb\tc\x00d") == "a b c?d"
    assert len(style.shorten_middle("x" * 99, 20)) == 20
