"""The machine's own rate: what is counted, and which product stands for it."""

import pytest

from seq2seq.diagnostics import flops as matmul_rate
from seq2seq.diagnostics.flops import Product, fastest_rate, timed_product


def test_the_arithmetic_of_a_product():
    assert Product(3, 5, 7).flops == 2 * 3 * 5 * 7


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_run_is_timed(dtype):
    run = timed_product(Product(4, 5, 6), dtype)
    assert min(run(), run()) > 0


def test_products_beside_each_other_share_their_seconds(monkeypatch):
    run = timed_product(Product(4, 5, 6), "float32", workers=4)
    clock = iter([1.0, 3.0])
    monkeypatch.setattr(matmul_rate.time, "perf_counter", lambda: next(clock))
    assert run() == 0.5


def test_the_rate_is_that_of_the_fastest_product_by_its_median():
    slow, fast = Product(1000, 1000, 500), Product(1000, 1000, 1000)
    rate, product = fastest_rate({slow: [0.5, 0.1, 0.001], fast: [0.1, 9.0, 0.05]})
    assert (rate, product) == (pytest.approx(2 * 1000**3 / 0.1 / 1e9), fast)
