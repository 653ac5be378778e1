"""Work in a second thread beside other work."""

import threading

import pytest

from nwb_migvis.alongside import alongside
from nwb_migvis.progress import progress


@pytest.mark.parametrize("in_thread", [True, False])
def test_the_result_of_the_task_or_its_error(in_thread):
    with alongside(threading.get_ident, in_thread=in_thread) as pending:
        assert (pending.result() != threading.get_ident()) == in_thread
        assert pending.result() == pending.result()
    with (
        pytest.raises(ZeroDivisionError),
        alongside(lambda: 1 // 0, in_thread=in_thread) as pending,
    ):
        pending.result()


def test_a_block_that_fails_stops_the_task_at_its_next_step():
    begun, going_on, steps = threading.Event(), threading.Event(), []

    def task():
        for step in progress(range(1000), what="work"):
            steps.append(step)
            begun.set()
            going_on.wait()

    with pytest.raises(KeyboardInterrupt), alongside(task) as pending:
        begun.wait()
        raise KeyboardInterrupt
    going_on.set()
    pending._thread.join()
    assert steps == [0]


def test_torch_uses_as_many_threads_there_as_here():
    torch = pytest.importorskip("torch")
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with alongside(torch.get_num_threads) as pending:
            assert pending.result() == 1
    finally:
        torch.set_num_threads(n_threads)
