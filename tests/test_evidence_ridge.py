"""Ridge regression beside numpy's singular values and the closed form."""

import numpy as np
import pytest

from nwb_migvis.evidence.ridge import fit_ridge, singular_vectors


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (9, 0)])
def test_singular_vectors_are_those_of_numpy(shape):
    x = np.random.default_rng(0).normal(size=shape)
    u, s, vt = singular_vectors(x)
    assert s == pytest.approx(np.linalg.svd(x, compute_uv=False), abs=1e-9)
    assert u * s @ vt == pytest.approx(x, abs=1e-9)
    assert u.T @ u == pytest.approx(np.eye(len(s)), abs=1e-9)


@pytest.mark.parametrize("n_features", [8, 50])
def test_ridge_solves_the_normal_equations_with_features_that_repeat(n_features):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, n_features)), rng.normal(size=(30, 2))
    x[:, 1], x[:, 2] = x[:, 0], 3.0
    z = (x - x.mean(axis=0)) / np.where(np.arange(n_features) == 2, np.inf, x.std(axis=0))
    for penalty in (1e-6, 1e-2, 1.0):
        weight = np.linalg.solve(z.T @ z + penalty * 30 * np.eye(n_features), z.T @ (y - y.mean(axis=0)))
        expected = z @ weight + y.mean(axis=0)
        assert fit_ridge(x, y, penalty=penalty).predict(x) == pytest.approx(expected, abs=1e-6)
