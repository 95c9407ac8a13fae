"""The executor and its parts: what it refuses, its cache, and whole programs under any cutting-up."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fivefold import _native

ISAS = _native.isas()


def test_instruction_sets_and_report() -> None:
    assert ISAS[0] == "portable"
    report = _native.cpu_report()
    assert isinstance(report["brand"], str)
    assert ("avx2" in ISAS) == bool(report.get("avx2") and report.get("fma") and report.get("f16c"))


def test_bandwidth_is_a_number() -> None:
    assert _native.read_bandwidth(_native.ThreadPool(2), 1 << 20, 0.001) > 1e6


class TestCache:
    def test_all_halves_come_back(self) -> None:
        """Every float16 and the numbers half way between two are rounded as numpy rounds them."""
        halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
        finite = np.sort(halves[np.isfinite(halves)])
        middles = (finite[1:] / 2 + finite[:-1] / 2).astype(np.float32)
        near = [np.nextafter(middles, np.float32(side * np.inf)) for side in (-1, 1)]
        more = [0.0, -0.0, 65519.996, 65520, 1e9, -1e30, 1e-8, 3e-8, np.inf, -np.inf]
        values = np.concatenate([finite, middles, *near, np.array(more, np.float32)])
        values = np.resize(values, -(-values.size // 4096) * 4096).reshape(-1, 4096)
        cache = _native.CacheStorage(1, 1, 1, 32, 4096, 4096)
        with np.errstate(over="ignore"):
            for row in values:
                cache.write_entry(0, 0, 0, 7, row, row[::-1].copy())
                key, value = cache.read_entry(0, 0, 0, 7)
                want = row.astype(np.float16).astype(np.float32)
                np.testing.assert_array_equal(key.view(np.int32), want.view(np.int32))
                np.testing.assert_array_equal(value.view(np.int32), want[::-1].copy().view(np.int32))

    def test_store_rounds_alike_on_all_instruction_sets(self, lab) -> None:
        rng = np.random.default_rng(0)
        x = (rng.normal(0, 1, (3, 20)) * 10.0 ** rng.integers(-9, 6, (3, 20))).astype(np.float32)
        for isa in ISAS:
            engine = lab(isa)
            cache = _native.CacheStorage(1, 2, 1, 32, 20, 20)
            group = engine.executor.add_group(cache, 1)
            k = engine.input(20)
            engine.node("attention_store", [k, k], [], integers=[0], group=group)
            tables, write = np.array([[[1]]], np.int32), np.array([[4], [-1], [31]], np.int32)
            zeros = np.zeros((3, 1), np.int32)
            engine.run(x, groups=[(tables, zeros, zeros, write, None, None)])
            with np.errstate(over="ignore"):
                want = x.astype(np.float16).astype(np.float32)
            for row, slot in ((0, 4), (2, 31)):
                for part in cache.read_entry(0, 1, 0, slot):
                    np.testing.assert_array_equal(part, want[row])
            assert not cache.read_entry(0, 1, 0, 5)[0].any()
            assert not cache.read_entry(0, 0, 0, 4)[0].any()

    def test_copies_entries_in_all_layers_and_heads(self) -> None:
        cache = _native.CacheStorage(2, 3, 2, 32, 8, 4)
        rng = np.random.default_rng(0)
        entries = {}
        for layer in range(2):
            for head in range(2):
                k, v = rng.integers(-9, 9, 8).astype(np.float32), rng.integers(-9, 9, 4).astype(np.float32)
                cache.write_entry(layer, 0, head, 3, k, v)
                entries[layer, head] = (k, v)
        one = np.ones(1, np.int32)
        cache.copy_entries(0 * one, 3 * one, 2 * one, 31 * one)
        for (layer, head), (k, v) in entries.items():
            got = cache.read_entry(layer, 2, head, 31)
            np.testing.assert_array_equal(got[0], k)
            np.testing.assert_array_equal(got[1], v)
        with pytest.raises(ValueError, match="page 3"):
            cache.copy_entries(0 * one, 0 * one, 3 * one, 0 * one)

    def test_sizes_are_checked(self) -> None:
        for sizes in [(0, 1, 1, 32, 8, 8), (1, 1, 1, 16, 8, 8), (1, 1, 1, 32, 0, 8)]:
            with pytest.raises(ValueError, match="cache"):
                _native.CacheStorage(*sizes)
        with pytest.raises(ValueError, match="wider"):
            _native.CacheStorage(1, 1, 1, 32, 8, 16, True)


class TestBuilding:
    """What does not fit is refused when it is added, by name."""

    @pytest.mark.parametrize(
        ("kernel", "inputs", "rest", "message"),
        [
            ("multiply", [0], {}, "no native kernel named 'multiply'"),
            ("add", [0], {}, "add: takes 2 inputs"),
            ("add", [0, 2], {}, "add: widths differ"),
            ("add", [0, 9], {}, "no buffer 9"),
            ("add", [0, 3], {}, "add: .*row sets"),
            ("scale", [0], {}, "scale: takes 1 floats"),
            ("soft_cap", [0], {"floats": [0.0]}, "soft_cap: the cap"),
            ("gated", [0, 0], {"integers": [4]}, "gated: the activation"),
            ("rms_norm", [0], {"weights": [1], "floats": [1e-5]}, "rms_norm: weight 1"),
            ("rms_norm", [0], {"weights": [0], "floats": [1e-5], "integers": [5]}, "rms_norm: .*5 parts"),
            ("rms_norm", [0], {"weights": [7], "floats": [1e-5]}, "no weight 7"),
            ("linear", [0], {"weights": [0]}, "linear: the weight is not a matrix"),
            ("linear", [0], {"weights": [2]}, "linear: the input's width"),
            ("rope", [0, 2], {"integers": [4, 8, 8, 0]}, "rope: the angles"),
            ("rope", [0, 2], {"integers": [3, 8, 8, 0]}, "rope: the width"),
            ("attention", [0], {"integers": [0, 4], "floats": [1.0, 0.0]}, "no cache group -1"),
            ("attention", [0], {"integers": [5, 4], "floats": [1.0, 0.0], "group": 0}, "attention: .*layer"),
            ("attention", [0], {"integers": [0, 3], "floats": [1.0, 0.0], "group": 0}, "attention: 3 heads"),
            ("gather_rows", [3], {}, "gather_rows: the input"),
            ("copy", [0], {"row_set": 1}, "copy: none of its buffers has row set 1"),
        ],
    )
    def test_nodes(self, lab, kernel, inputs, rest, message) -> None:
        engine = lab(ISAS[-1])
        some = engine.executor.add_row_set()
        engine.buffer(32), engine.buffer(32), engine.buffer(16), engine.buffer(32, some)
        engine.vector(np.ones(32)), engine.vector(np.ones(31))
        engine.matrix("f32", np.zeros(32 * 16 * 4, np.uint8), 32, 16)
        engine.executor.add_group(_native.CacheStorage(1, 1, 2, 32, 8, 8), 1)
        with pytest.raises(ValueError, match=message):
            engine.node(kernel, inputs, [1], **rest)

    def test_matrices(self) -> None:
        pool = _native.ThreadPool(1)
        data = np.zeros(340, np.uint8)
        for isa, name, rows, columns, message in [
            ("mmx", "q8_0", 10, 32, "no kernels named 'mmx'"),
            ("portable", "q9", 10, 32, "no native format named 'q9'"),
            ("portable", "q8_0", 9, 32, "takes 306 bytes, not 340"),
            ("portable", "q8_0", 10, 33, "multiple of 32"),
            ("portable", "q8_0", -1, 32, "out of range"),
        ]:
            with pytest.raises(ValueError, match=message):
                _native.Matrix(pool, isa, name, data, rows, columns)
        matrix = _native.Matrix(pool, "portable", "q8_0", data, 10, 32)
        assert (matrix.rows, matrix.columns, matrix.bytes) == (10, 32, 2 * 8 * 34)

    def test_a_matrix_of_another_instruction_set(self, lab) -> None:
        if len(ISAS) < 2:
            pytest.skip("only one instruction set works here")
        engine = lab(ISAS[1])
        x, y = engine.buffer(32), engine.buffer(32)
        other = _native.Matrix(engine.pool, ISAS[0], "f32", np.zeros(4096, np.uint8), 32, 32)
        weight = engine.executor.add_matrix(other)
        with pytest.raises(ValueError, match="packed for portable"):
            engine.node("linear", [x], [y], weights=[weight])

    def test_nothing_is_added_after_the_first_run(self, lab, isa) -> None:
        engine = lab(isa)
        x = engine.input(4)
        engine.run(np.ones((1, 4)))
        with pytest.raises(ValueError, match="after its first run"):
            engine.node("copy", [x], [x])

    def test_threads(self) -> None:
        for threads in (0, -1, 5000):
            with pytest.raises(ValueError, match="thread pool"):
                _native.ThreadPool(threads)


def good_run() -> dict:
    """Arguments of a run of three rows that the small engine below accepts."""
    column = np.arange(3, dtype=np.int32)[:, None]
    return {
        "tokens": np.array([0, 4, 2], np.int32),
        "positions": column[:, 0].copy(),
        "sequence": np.zeros(3, np.int32),
        "row_sets": [np.array([2], np.int32)],
        "groups": [[np.array([[[2, -1]]], np.int32), 0 * column, column + 1, column.copy(), None, None]],
        "inputs": [np.ones((3, 16), np.float32)],
    }


def small_engine(lab):
    engine = lab(ISAS[-1], 2, max_rows=8)
    some = engine.executor.add_row_set()
    group = engine.executor.add_group(_native.CacheStorage(1, 3, 2, 32, 8, 8), 1)
    x, y, out, last = engine.buffer(16), engine.input(16), engine.buffer(16), engine.buffer(16, some)
    engine.node(
        "embed", [], [x], weights=[engine.executor.add_table("f32", np.zeros(5 * 64, np.uint8), 5, 16)]
    )
    engine.node("add", [x, y], [x])
    engine.node("attention_store", [x, x], [], integers=[0], group=group)
    engine.node("attention", [x], [out], integers=[0, 2], floats=[1.0, 0.0], group=group)
    engine.node("gather_rows", [out], [last], row_set=some)
    return engine, last


def start(arguments: dict, engine) -> None:
    arguments["groups"] = [tuple(group) for group in arguments["groups"]]
    engine.executor.run(**arguments)


class TestRunning:
    """Every index is checked before any memory is touched."""

    def test_the_good_run(self, lab) -> None:
        engine, last = small_engine(lab)
        start(good_run(), engine)
        np.testing.assert_array_equal(engine.result(last), np.ones((1, 16)))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: a["tokens"].__setitem__(1, 5), "token 5 in row 1"),
            (lambda a: a["tokens"].__setitem__(1, -1), "token -1"),
            (lambda a: a.update(tokens=np.zeros(2, np.int32)), "same length"),
            (lambda a: a["row_sets"][0].__setitem__(0, 3), "row set 1 names row 3 of 3"),
            (lambda a: a["row_sets"].append(a["row_sets"][0]), "row sets"),
            (lambda a: a.update(row_sets=[np.zeros(9, np.int32)]), "more than max_rows"),
            (lambda a: a["sequence"].__setitem__(2, 1), "no tables for sequence 1 of row 2"),
            (lambda a: a["sequence"].__setitem__(2, -1), "no tables for sequence -1"),
            (lambda a: a["groups"][0][0].__setitem__((0, 0, 0), 3), "page 3 is not below 3"),
            (lambda a: a["groups"][0][0].__setitem__((0, 0, 0), -2), "page -2"),
            (lambda a: a["groups"][0][0].__setitem__((0, 0, 0), -1), "no page there"),
            (lambda a: a["groups"][0][1].__setitem__((1, 0), -1), "row 1 sees slots -1"),
            (lambda a: a["groups"][0][2].__setitem__((1, 0), 33), "no page there"),
            (lambda a: a["groups"][0][2].__setitem__((1, 0), 65), "its table has 2 pages"),
            (lambda a: a["groups"][0][2].__setitem__((1, 0), 2**31 - 1), "its table has 2 pages"),
            (lambda a: a["groups"][0][3].__setitem__((1, 0), 32), "row 1 writes"),
            (lambda a: a["groups"][0][3].__setitem__((1, 0), 2**31 - 1), "row 1 writes"),
            (lambda a: a["groups"][0].__setitem__(1, np.zeros((2, 1), np.int32)), r"\(rows, tables\)"),
            (lambda a: a["groups"][0].__setitem__(1, np.zeros((3, 1))), "wrong type or shape"),
            (lambda a: a["groups"][0].__setitem__(0, np.zeros((1, 2, 1), np.int32)), "of 1 tables"),
            (lambda a: a["groups"][0].__setitem__(4, np.zeros((3, 1), np.uint64)), "both mask and mask_from"),
            (lambda a: a["groups"].clear(), "1 cache groups, but 0"),
            (lambda a: a["groups"].append(a["groups"][0]), "more cache groups"),
            (lambda a: a["inputs"].clear(), "1 inputs, but 0"),
            (lambda a: a.update(inputs=[np.ones((3, 15), np.float32)]), "must be 3 x 16"),
        ],
    )
    def test_bad_runs(self, lab, change, message) -> None:
        engine, last = small_engine(lab)
        arguments = good_run()
        change(arguments)
        with pytest.raises(ValueError, match=message):
            start(arguments, engine)
        start(good_run(), engine)
        np.testing.assert_array_equal(engine.result(last), np.ones((1, 16)))

    def test_too_many_rows(self, lab, isa) -> None:
        engine = lab(isa, max_rows=4)
        engine.input(3)
        with pytest.raises(ValueError, match="5 rows"):
            engine.run(np.ones((5, 3)))

    def test_no_rows(self, lab) -> None:
        engine, last = small_engine(lab)
        empty, column = np.zeros(0, np.int32), np.zeros((0, 1), np.int32)
        group = (np.zeros((1, 1, 2), np.int32), column, column, column, None, None)
        engine.executor.run(empty, empty, empty, [empty], [group], [np.zeros((0, 16), np.float32)])
        assert engine.result(last).shape == (0, 16)

    def test_timings(self, lab) -> None:
        engine, last = small_engine(lab)
        engine.executor.profile(True)
        start(good_run(), engine)
        assert {"embed", "add", "attention", "gather_rows"} <= {name for name, _ in engine.executor.timings()}
        np.testing.assert_array_equal(engine.result(last), np.ones((1, 16)))


def layers(lab, stored, isa, threads, activations="int8"):
    """A small program with everything in it that shares memory slots and quantized rows."""
    engine = lab(isa, threads, activations, max_rows=64)
    add = engine.executor.add_buffer
    engine.executor.add_slots([64, 64, 64, 96, 96, 64])
    x, y, z = (add(slot, 64, 0) for slot in range(3))
    wide, gate, narrow = add(3, 96, 0), add(4, 96, 0), add(4, 32, 0)
    angles = add(5, 16, 0)
    group = engine.executor.add_group(_native.CacheStorage(2, 8, 2, 32, 16, 16), 1)
    engine.node(
        "embed", [], [x], weights=[engine.executor.add_table("q8_0", stored("q8_0", 50, 64)[0], 50, 64)]
    )
    engine.node("rope_angles", [], [angles], weights=[engine.vector(np.linspace(1, 0.01, 8))], floats=[1.0])
    for layer in range(2):
        seed = 10 * layer

        def linear(source, target, outputs, columns, name="q4_1", seed=seed) -> None:
            data, _ = stored(name, outputs, columns, seed + outputs)
            engine.node("linear", [source], [target], weights=[engine.matrix(name, data, outputs, columns)])

        engine.node("rms_norm", [x], [y], weights=[engine.vector(np.ones(64))], floats=[1e-5])
        linear(y, z, 64, 64)
        linear(y, narrow, 32, 64, "q4_0")
        engine.node("rope", [z, angles], [z], integers=[4, 16, 16, 0])
        engine.node("rope", [narrow, angles], [narrow], integers=[2, 16, 16, 0])
        engine.node("attention_store", [narrow, narrow], [], integers=[layer], group=group)
        engine.node("attention", [z], [y], integers=[layer, 4], floats=[0.25, 0.0], group=group)
        linear(y, z, 64, 64, "q8_0")
        engine.node("add", [x, z], [x])
        engine.node("rms_norm", [x], [x], weights=[engine.vector(np.ones(64))], floats=[1e-5])
        linear(x, wide, 96, 64)
        linear(x, gate, 96, 64, "bf16")
        engine.node("gated", [wide, gate], [wide], integers=[0])
        linear(wide, z, 64, 96)
        engine.node("add", [x, z], [x])
    return engine, x


def run_layers(engine, out, sizes) -> np.ndarray:
    rng = np.random.default_rng(4)
    tokens = rng.integers(0, 50, 64)
    tables = rng.permutation(8)[:2].astype(np.int32).reshape(1, 1, 2)
    results, first = [], 0
    for size in sizes:
        at = np.arange(first, first + size, dtype=np.int32)
        column = at[:, None].copy()
        group = (tables, 0 * column, column + 1, column, None, None)
        engine.run(rows=size, tokens=tokens[at], positions=at, groups=[group])
        results.append(engine.result(out))
        first += size
    return np.concatenate(results)


@pytest.mark.parametrize("activations", ["int8", "float"])
def test_a_program_gives_the_same_bits_everywhere(lab, stored, activations) -> None:
    """Instruction sets, threads, chunks of 1 to 64 rows; and profiling, which runs every node alone."""
    want = run_layers(*layers(lab, stored, "portable", 1, activations), [64])
    assert np.isfinite(want).all()
    for isa in ISAS:
        for threads, sizes in [(1, [1] * 64), (2, [64]), (2, [1, 3, 30, 30]), (2, [1] * 64), (3, [33, 31])]:
            got = run_layers(*layers(lab, stored, isa, threads, activations), sizes)
            np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))
    engine, out = layers(lab, stored, ISAS[-1], 2, activations)
    engine.executor.profile(True)
    np.testing.assert_array_equal(run_layers(engine, out, [20, 44]), want)


def test_executors_share_a_pool_from_several_threads(lab, stored) -> None:
    """Runs on one pool take turns; each gets its own result."""
    first, out = layers(lab, stored, ISAS[-1], 2)
    want = run_layers(first, out, [64])
    engines = [layers(lab, stored, ISAS[-1], 2) for _ in range(3)]
    results: list[np.ndarray] = []
    runners = [threading.Thread(target=lambda e=e: results.append(run_layers(*e, [16] * 4))) for e in engines]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert len(results) == 3
    for result in results:
        np.testing.assert_array_equal(result, want)
