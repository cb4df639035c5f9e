# SPDX-License-Identifier: Apache-2.0
"""Published recurrent networks from their own files: floats as published, integers near them."""

import numpy as np
import pytest

from bitblocks import evaluate
from examples.networks import KEYWORDS, MNIST_LSTM, NETWORKS, SHARED, WAKEWORD

present = pytest.mark.skipif(not KEYWORDS.is_dir(), reason="the data are not beside this checkout")


@present
@pytest.mark.parametrize("name", ["Basic_LSTM_S", "LSTM_S"])
def test_keywords_are_as_sure_as_published(name):
    example = NETWORKS[name.lower()]
    y = evaluate(example.read(), example.data().x)["logits"]
    shares = np.exp(y - y.max(axis=1, keepdims=True))
    with np.load(KEYWORDS / f"{name}_golden.npz") as golden:
        wanted = golden["softmax"]
    np.testing.assert_allclose(shares / shares.sum(axis=1, keepdims=True), wanted, atol=2e-6)


@present
def test_wake_word_is_heard_where_published():
    example = NETWORKS["precise_gru_windows"]
    y = evaluate(example.read(), example.data().x)["sure"][:, 0]
    with np.load(WAKEWORD / "golden_test_wav.npz") as golden:
        np.testing.assert_allclose(y, golden["prob"], atol=1e-6)


@present
def test_digits_are_told_as_by_the_published_integers():
    """Those are 8 bits throughout, and right in 0.928 of the digits."""
    example = NETWORKS["mnist_lstm"]
    assert example.model == MNIST_LSTM
    data = example.data()
    y = evaluate(example.read(), data.x)["logits"].argmax(axis=1)
    with np.load(SHARED / "mnist_t10k" / "golden_lstm_int8_first500.npz") as golden:
        integers = golden["out"].argmax(axis=1)
    assert (y == data.target).mean() > 0.97
    assert (y == integers).mean() > 0.9
