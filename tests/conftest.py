"""Shared by all tests: where things are, a tiny encoder, one thread."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT))
torch.set_num_threads(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: simulations, run by -m slow alone")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("slow") and "slow" not in config.option.markexpr:
            item.add_marker(pytest.mark.skip(reason="slow; python -m pytest -m slow"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and official outputs beside the checkout; tests that need them skip without."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real data and oracles)")
    return SHARED


@pytest.fixture(scope="session")
def tokenizer():
    """The toy vocabulary."""
    import data
    return data.Tokenizer(ROOT / "toy/encoder/sentencepiece.bpe.model")


@pytest.fixture(scope="session")
def xlmr(shared):
    """The 250,000-piece vocabulary of XLM-R."""
    import data
    return data.Tokenizer(shared / "data/xlmr/sentencepiece.bpe.model")
