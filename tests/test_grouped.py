"""Sums of rows that belong together."""

import numpy as np
import pytest

from nwb_migvis.evidence.grouped import summed


@pytest.mark.parametrize("shape", [(400,), (400, 3), (400, 2, 3)])
@pytest.mark.parametrize("kind", [np.float64, np.uint16, bool])
def test_sums_are_those_of_adding_row_by_row(shape, kind):
    rng = np.random.default_rng(0)
    values, index = (9 * rng.normal(size=shape) ** 2).astype(kind), rng.integers(0, 50, 400)
    expected = np.zeros((52, *shape[1:]))  # the last two have no rows
    np.add.at(expected, index, values)
    np.testing.assert_array_equal(summed(values, index, 52), expected, strict=True)
