"""Cores of an affinity or a container, parallel work in order, and work ahead of its reader."""

import threading
import time

import pytest
import tensorflow as tf

from seq2seq import threads
from seq2seq.errors import Seq2SeqError
from seq2seq.models import generation, inference
from seq2seq.threads import count_cores, map_parallel, prefetch, windows

SOURCES = ["the cat sees the old dog", "the king loves the girl today", "", "the wild bird finds the man"] * 3


def running(name: str) -> int:
    return sum(thread.name.startswith(name) for thread in threading.enumerate())


class TestCores:
    @pytest.fixture
    def eight_cores(self, monkeypatch):
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))

    @pytest.mark.parametrize(
        ("membership", "files", "cores"),
        [
            (None, {}, 8),
            ("0::/", {}, 8),
            ("0::/", {"cpu.max": "150000 100000"}, 2),
            ("0::/", {"cpu.max": "6400000 100000"}, 8),
            ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
            ("2:cpuacct:/\n1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
            ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
            ("4:cpu,cpuacct:/x", {"cpu,cpuacct/x/cpu.cfs_quota_us": "200000",
                                  "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 2),
            # A container of version 1 sees the path of its host, and its own group at the top.
            ("4:cpu,cpuacct:/docker/abc", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ],
    )  # fmt: skip
    def test_quota_of_a_container(self, tmp_path, eight_cores, membership, files, cores):
        if membership:
            (tmp_path / "cgroup").write_text(membership + "\n")
        for name, content in files.items():
            (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "fs" / name).write_text(content + "\n")
        assert count_cores(str(tmp_path / "cgroup"), tmp_path / "fs") == cores

    def test_workers_of_a_process_that_decodes(self, monkeypatch):
        monkeypatch.setattr(threads, "count_cores", lambda: 3)
        monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 0)
        assert threads.count_workers() == 1
        monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 1)
        assert threads.count_workers() == 3
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["GPU:0"])
        assert threads.count_workers() == 1

    def test_single_threaded_ops_too_late_is_no_error(self):
        tf.constant(1.0)
        before = tf.config.threading.get_intra_op_parallelism_threads()
        threads.use_single_threaded_ops()
        assert tf.config.threading.get_intra_op_parallelism_threads() == before


class TestMapParallel:
    @staticmethod
    def late_first(item: int) -> int:
        """Let later items be done before earlier ones."""
        time.sleep(0.02 if item % 3 == 0 else 0)
        return 10 * item

    @pytest.mark.parametrize("workers", [1, 2, 7, None])
    @pytest.mark.parametrize("count", [0, 1, 12])
    def test_order(self, workers, count):
        assert list(map_parallel(self.late_first, range(count), workers)) == [10 * n for n in range(count)]

    def test_threads_work_at_the_same_time(self):
        # Each waits for the others: with fewer at work none would come out.
        barrier = threading.Barrier(3, timeout=10)
        assert len(list(map_parallel(lambda item: barrier.wait(), range(6), threads=3))) == 6

    def test_iterators_are_read_as_needed(self):
        taken = []

        def items():
            for item in range(100):
                taken.append(item)
                yield item

        found = map_parallel(self.late_first, items(), threads=2)
        assert taken == []
        assert next(found) == 0
        assert taken == [0, 1, 2]
        found.close()
        assert running("seq2seq-parallel") == 0

    @pytest.mark.parametrize("workers", [1, 2, 7])
    def test_first_error_in_order(self, workers):
        def items():
            yield from range(5)
            raise OSError("the items end")

        def fails_at(place):
            def function(item):
                if item >= place:
                    time.sleep(0.02 if item == place else 0)
                    raise Seq2SeqError(f"item {item}")
                return item

            return function

        results = []
        with pytest.raises(Seq2SeqError, match="item 3"):
            results.extend(map_parallel(fails_at(3), items(), workers))
        with pytest.raises(OSError, match="the items end"):
            results.extend(map_parallel(fails_at(9), items(), workers))
        assert running("seq2seq-parallel") == 0
        # `extend` keeps what it was given until the error.
        assert results == [0, 1, 2, 0, 1, 2, 3, 4]

    def test_threads_out_of_range(self):
        with pytest.raises(ValueError, match="threads must be"):
            map_parallel(len, [], threads=0)


class TestDecodingInParallel:
    @pytest.fixture
    def four_workers(self, monkeypatch):
        """Act as a process that gave each operation one thread, on four cores."""
        for room in (generation, inference):
            monkeypatch.setattr(room, "count_workers", lambda: 4)

    @pytest.mark.parametrize("options", [{"beam_size": 2}, {"sample": True, "n_best": 2}, {"beam_size": 1}], ids=str)
    def test_same_translations(self, trained, four_workers, monkeypatch, options):
        expected = trained.generate(SOURCES, **options)
        used = []
        map_in_threads = generation.map_parallel
        monkeypatch.setattr(
            generation, "map_parallel", lambda *arguments: used.append(arguments[-1]) or map_in_threads(*arguments)
        )
        found = trained.generate(SOURCES, batch_tokens=32, **options)
        assert [[one.text for one in few] for few in found] == [[one.text for one in few] for few in expected]
        assert used == [4]

    def test_same_scores(self, trained, toy_pairs, four_workers):
        sources, targets = zip(*toy_pairs[:20], strict=True)
        together, apart = (trained.score(sources, targets, batch_tokens=size) for size in (4096, 32))
        assert [one.log_prob for one in apart] == pytest.approx([one.log_prob for one in together], abs=1e-3)

    def test_every_worker_has_batches_but_none_too_small(self, monkeypatch, four_workers):
        assert [generation._share_among_workers(4096, tokens) for tokens in (160_000, 16_000, 1_000)] == [
            4096,
            1000,
            512,
        ]
        assert generation._share_among_workers(100, 1_000) == 100
        monkeypatch.setattr(generation, "count_workers", lambda: 1)
        assert generation._share_among_workers(4096, 1_000) == 4096


class TestPrefetch:
    @pytest.mark.parametrize("depth", [0, 1, 3, 100])
    @pytest.mark.parametrize("count", [0, 1, 50])
    def test_same_items_in_the_same_order(self, depth, count):
        assert list(prefetch(range(count), depth)) == list(range(count))
        assert running("seq2seq-prefetch") == 0

    def test_depth_bounds_what_is_made_ahead(self):
        made = []

        def items():
            for item in range(100):
                made.append(item)
                yield item

        found = prefetch(items(), depth=3)
        assert made == []
        assert next(found) == 0
        deadline = time.monotonic() + 5
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        # One handed over, three waiting, one in the hand of the thread.
        assert made == [0, 1, 2, 3, 4]
        found.close()
        assert running("seq2seq-prefetch") == 0

    @pytest.mark.parametrize("depth", [0, 1, 4])
    def test_error_comes_where_the_item_would_have_come(self, depth):
        def items():
            yield 1
            yield 2
            raise KeyError("the reason")

        found = prefetch(items(), depth)
        assert [next(found), next(found)] == [1, 2]
        with pytest.raises(KeyError, match="the reason"):
            next(found)
        assert running("seq2seq-prefetch") == 0

    @pytest.mark.parametrize("taken", [0, 1, 5])
    def test_closing_ends_the_thread(self, taken):
        def endless():
            while True:
                yield 0

        found = prefetch(endless(), depth=2)
        for _ in range(taken):
            next(found)
        found.close()
        assert running("seq2seq-prefetch") == 0
        assert list(found) == []

    def test_thread_works_while_the_reader_is_busy(self):
        made = [threading.Event() for _ in range(6)]

        def items():
            for number, event in enumerate(made):
                event.set()
                yield number

        for number in prefetch(items(), depth=2):
            # All that the reader does here is to wait for the thread to make the next two.
            assert all(event.wait(5) for event in made[number + 1 : number + 3])

    def test_negative_depth(self):
        with pytest.raises(ValueError, match="depth must be"):
            prefetch([], -1)


class TestWindows:
    @staticmethod
    def cut(items, most=3, largest=100, patience=None):
        return windows(items, most, size=len, largest=largest, patience=patience)

    @pytest.mark.parametrize("patience", [None, 5.0])
    def test_limits(self, patience):
        items = ["a", "b", "c", "dddd", "e", "ff", "ggg", "h"]
        found = list(self.cut(items, largest=5, patience=patience))
        assert found == [["a", "b", "c"], ["dddd", "e"], ["ff", "ggg"], ["h"]]
        assert list(self.cut([])) == []
        assert list(self.cut("ab", most=1)) == [["a"], ["b"]]

    def test_window_does_not_wait_for_a_late_item(self):
        received = threading.Event()

        def items():
            yield "a"
            yield "b"
            # It comes when the window before it was received, which therefore did not wait for it.
            assert received.wait(5)
            yield "c"

        found = self.cut(items(), patience=0.01)
        windows_before = [next(found)]
        while sum(map(len, windows_before)) < 2:
            windows_before.append(next(found))
        received.set()
        assert [item for window in windows_before for item in window] == ["a", "b"]
        assert list(found) == [["c"]]

    def test_error_comes_after_the_window_before_it(self):
        def items():
            yield "a"
            raise KeyError("the reason")

        found = self.cut(items())
        assert next(found) == ["a"]
        with pytest.raises(KeyError, match="the reason"):
            next(found)

    def test_reads_one_window_ahead(self):
        made = []

        def items():
            while True:
                made.append(0)
                yield "a"

        found = self.cut(items())
        next(found)
        time.sleep(0.05)
        # Three handed over, three waiting, one in the hand of the thread.
        assert len(made) == 7
        found.close()
        deadline = time.monotonic() + 5
        while running("seq2seq-prefetch") and time.monotonic() < deadline:
            time.sleep(0.001)
        assert running("seq2seq-prefetch") == 0
