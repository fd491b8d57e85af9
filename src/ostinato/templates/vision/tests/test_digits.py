"""The digits: numbers by hand, and that a row is a pure function of seed and number."""

import numpy as np

from {{name}}.data.digits import Digits, bilinear, glyphs


def test_a_row_depends_on_seed_and_number_alone():
    one, other = Digits(7, size=100), Digits(7, first=40, size=10)
    for index in range(10):
        assert np.array_equal(one[40 + index]["image"], other[index]["image"])
        assert one[40 + index]["label"] == other[index]["label"]
    assert not np.array_equal(Digits(8)[40]["image"], one[40]["image"])
    assert one.fingerprint != other.fingerprint != Digits(8).fingerprint


def test_without_change_the_glyph_stands_upright_in_the_middle():
    still = Digits(0, resolution=11)  # one pixel a dot: resolution / (7 + 4) is 1
    picture = still.render(1, 0, 0, 0, 0)
    assert np.allclose(picture[1:10, 2:9], glyphs()[1], atol=1e-6)
    assert picture.sum() == picture[1:10, 2:9].sum()


def test_bilinear_by_hand():
    dots = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    rows, columns = np.array([[0.0, 0.5, 0.5]]), np.array([[0.25, 0.5, 9.0]])
    assert np.allclose(bilinear(dots, rows, columns), [[0.25, 0.25, 0.0]])


def test_all_classes_come_about_equally_often():
    labels = [Digits(0)[index]["label"] for index in range(500)]
    assert min(labels.count(digit) for digit in range(10)) > 25
