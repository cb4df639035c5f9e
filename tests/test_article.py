# SPDX-License-Identifier: Apache-2.0
"""The list of the article that the project is after, block by block.

E. Culurciello, Neural Networks Building Blocks, 2017.
"""

import pytest

from blocks.catalogue import CATALOGUE

ARTICLE = {
    "weights": ["Weight"],
    "neurons": ["Neuron"],
    "identity": ["Identity"],
    "non-linearities": ["ReLU", "Piecewise", "PReLU", "Nonlinearity", "softmax"],
    "linear layers": ["Linear"],
    "convolutions": ["Convolution", "TransposedConvolution"],
    "pooling": ["MaxPool", "AveragePool"],
    "recurrent networks": ["Recur", "rnn"],
    "LSTM": ["lstm"],
    "GRU": ["gru"],
    "attention, soft": ["gate", "attention", "multi_head_attention"],
    "attention, hard": ["Gate", "ArgMax"],
    "memories with banks and heads": [
        "Memory",
        "content_addressing",
        "location_addressing",
        "soft_write",
        "neural_turing_machine",
    ],
    "residual modules": ["Add"],
    "networks of blocks": ["Network"],
}


@pytest.mark.parametrize("names", ARTICLE.values(), ids=ARTICLE)
def test_the_catalogue_has_what_the_article_asks_for(names):
    """Whatever is in the catalogue answers all questions of the suite."""
    assert set(names) <= set(CATALOGUE)
