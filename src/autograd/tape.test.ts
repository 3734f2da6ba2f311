import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose, devices } from '../testing.js';
import { scope } from '../tensor/scope.js';
import { full, parameter, tensor, zeros, type Tensor } from '../tensor/tensor.js';
import { checkGradients } from './gradient-check.js';
import { isRecording, noGrad, record, Tape } from './tape.js';

const test = suite('tape');

// Values are small integers, exact in float32: every comparison is exact.

/** y = a + b; both inputs get the very same tensor as gradient. */
function plus(a: Tensor, b: Tensor): Tensor {
  const y = a.like('plus');
  a.device.kernels.add(y, a, b);
  return record('plus', y, [a, b], [], (dy) => [dy, dy]);
}

/** y = 3 x, and what the tape is to save. `seen` hears that backward ran. */
function triple(x: Tensor, saved: readonly Tensor[] = [], seen: () => void = () => undefined): Tensor {
  const times3 = (t: Tensor) => {
    const { add } = t.device.kernels;
    const y = t.like('triple');
    add(y, t, t);
    add(y, y, t);
    return y;
  };
  return record('triple', times3(x), [x], saved, (dy) => {
    seen();
    return [times3(dy)];
  });
}

for (const device of devices) {
  const leaf = (...values: number[]) => parameter(tensor(values, [values.length], { device }));
  const ones = (n: number) => full([n], 1, { device });
  const gradient = (t: Tensor) => Array.from(t.grad?.toArray() ?? []);
  const live = () => device.statistics().live;
  const on = (name: string, f: () => void) => {
    test(`${name} (${device.name})`, () => {
      const before = live();
      scope(f);
      assert.is(live(), before, 'live bytes after the test');
    });
  };

  on('a tensor used twice gets the sum of both gradients', () => {
    const a = leaf(1, 2);
    const tape = new Tape();
    const y = tape.record(() => plus(a, plus(a, a)));
    assertClose(y.toArray(), [3, 6], 0);
    tape.backward(y, tensor([1, 10], [2], { device }));
    assert.equal(gradient(a), [3, 30]);
    a.grad?.dispose();
  });

  on('gradients that meet at an intermediate result are added, and its branches keep theirs', () => {
    const [a, b] = [leaf(1), leaf(1)];
    const tape = new Tape();
    const y = tape.record(() => {
      const [h, k] = [triple(a), triple(b)];
      const once = triple(h);
      return plus(once, plus(h, k)); // dy arrives at h and k in shared memory, and then from `once` at h
    });
    tape.backward(y);
    assert.equal([a, b].map(gradient), [[12], [3]]); // h gets 3 + 1, times 3
    for (const t of [a, b]) t.grad?.dispose();
  });

  on("a parameter's gradient is its own memory: changing one leaves the others", () => {
    const [a, b] = [leaf(0, 0), leaf(0, 0)];
    const seed = ones(2);
    const tape = new Tape();
    tape.backward(
      tape.record(() => plus(a, b)),
      seed,
    );
    assert.ok(a.grad && b.grad);
    a.grad.set(Float32Array.of(7, 7));
    assert.equal(gradient(b), [1, 1]);
    assertClose(seed.toArray(), [1, 1], 0);
    a.grad.dispose();
    b.grad.dispose();
  });

  on('gradients of several tapes add up until they are freed', () => {
    const a = leaf(5);
    for (let i = 0; i < 3; i++)
      scope(() => {
        const tape = new Tape();
        tape.backward(tape.record(() => triple(a)));
      });
    assert.equal(gradient(a), [9]);
    a.grad?.dispose();
  });

  on('what a node saved is freed as soon as it has been used', () => {
    const a = leaf(1);
    const [early, late] = [zeros([1 << 10], { device }), zeros([1 << 10], { device })];
    const held: boolean[] = [];
    const tape = new Tape();
    const y = tape.record(() => {
      const h = triple(a, [early], () => held.push(early.storage.freed, late.storage.freed));
      return triple(h, [late], () => held.push(early.storage.freed, late.storage.freed));
    });
    early.dispose();
    late.dispose();
    assert.not(early.storage.freed); // the tape holds them
    tape.backward(y);
    assert.equal(held, [false, false, false, true]); // the later node goes backward first
    assert.ok(early.storage.freed && late.storage.freed);
    a.grad?.dispose();
  });

  on('a tape that is dropped, or whose recording throws, frees what it saved', () => {
    const a = leaf(1);
    const [first, second] = [zeros([4], { device }), zeros([4], { device })];
    const dropped = new Tape();
    dropped.record(() => triple(a, [first]));
    first.dispose();
    dropped.dispose();
    assert.ok(first.storage.freed);
    assert.throws(
      () =>
        new Tape().record(() => {
          triple(a, [second]);
          second.dispose();
          throw new Error('midway');
        }),
      /midway/,
    );
    assert.ok(second.storage.freed);
    assert.not(isRecording());
  });

  on('an op whose gradient throws or has a wrong shape is named, and nothing leaks', () => {
    const a = leaf(1);
    const saved = zeros([4], { device });
    const tape = new Tape();
    const y = tape.record(() => {
      const h = triple(a, [saved]);
      return record('strange', h.clone(), [h], [], () => [zeros([2], { device })]);
    });
    saved.dispose();
    assert.throws(() => {
      tape.backward(y);
    }, /strange backward: expected a gradient like float32 \[1\], got float32 \[2\]/);
    assert.ok(saved.storage.freed);
    assert.is(a.grad, undefined);
  });

  on('nothing is recorded without a tape, under noGrad, or without parameters', () => {
    const a = leaf(1);
    const constant = zeros([1], { device });
    assert.is(triple(a).node, undefined);
    const tape = new Tape();
    tape.record(() => {
      assert.ok(isRecording());
      assert.is(triple(constant).requiresGrad, false);
      assert.is(noGrad(() => triple(a)).node, undefined);
      const y = plus(triple(a), constant);
      tape.backward(y);
    });
    assert.equal(gradient(a), [3]);
    assert.is(constant.grad, undefined);
    a.grad?.dispose();
  });

  on('backward wants one element or a seed of the right shape', () => {
    const a = leaf(1, 2);
    const tape = new Tape();
    const y = tape.record(() => triple(a));
    assert.throws(() => {
      tape.backward(y);
    }, /backward: expected a loss of one element, got float32 \[2\]/);
    assert.throws(() => {
      tape.backward(y, ones(3));
    }, /backward: expected a seed like float32 \[2\] on \w+, got float32 \[3\] on \w+/);
    assert.throws(() => {
      tape.backward(y, tensor([1, 1], [2], { device, dtype: 'bfloat16' }));
    }, /backward: expected a seed like float32 \[2\] on \w+, got bfloat16 \[2\] on \w+/);
    if (device.name !== 'cpu')
      assert.throws(() => {
        tape.backward(y, tensor([1, 1]));
      }, /backward: expected a seed like float32 \[2\] on \w+, got float32 \[2\] on cpu/);
    assert.throws(() => {
      tape.backward(a, ones(2));
    }, /backward: expected a tensor computed on the tape from parameters/);
    const again = () => new Tape().backward(y, ones(2));
    assert.throws(again, /backward: expected a tensor computed on the tape from parameters/);
    tape.backward(y, ones(2));
    assert.equal(gradient(a), [3, 3]);
    a.grad?.dispose();
    assert.throws(() => tape.backward(y, ones(2)), /backward: expected a tensor computed on the tape/);
  });

  on('what a tape that is done computed is a constant for the next, to which no gradient goes', () => {
    const a = leaf(1);
    let state = ones(1);
    for (let i = 0; i < 3; i++) {
      const tape = new Tape();
      state = tape.record(() => plus(triple(a), state));
      assert.ok(state.requiresGrad);
      tape.backward(state);
      assert.not(state.requiresGrad);
      assert.is(state.node, undefined);
    }
    assert.equal(gradient(a), [9]);
    const dropped = new Tape();
    const y = dropped.record(() => triple(a));
    dropped.dispose();
    assert.not(y.requiresGrad);
    a.grad?.dispose();
  });

  on(
    'a tape that goes backward after one that used its result adds to the gradient that came from there',
    () => {
      const a = leaf(1);
      const [first, second] = [new Tape(), new Tape()];
      const h = first.record(() => triple(a));
      second.backward(second.record(() => triple(h)));
      first.backward(h);
      assert.equal(gradient(a), [12]); // 3 (3 + 1)
      a.grad?.dispose();
    },
  );

  on('a step leaves as many bytes as there were before it', () => {
    const a = leaf(1, 2);
    const step = () => {
      scope(() => {
        const tape = new Tape();
        tape.backward(
          tape.record(() => plus(triple(a), a)),
          ones(2),
        );
      });
      a.grad?.dispose();
      a.grad = undefined;
    };
    const before = live();
    for (let i = 0; i < 10; i++) step();
    assert.is(live(), before);
  });
}

test('an asynchronous function is refused: what it does later would not be recorded', () => {
  const later = () => Promise.resolve();
  assert.throws(() => new Tape().record(later), /record: expected a function that is done when it returns/);
  assert.throws(() => noGrad(later), /noGrad: expected a function that is done when it returns/);
  assert.not(isRecording());
});

test('gradients are checked in double precision only', () => {
  assert.throws(
    () => checkGradients((x) => triple(x), [parameter(zeros([2]))]),
    /checkGradients: expected float64 where a gradient is wanted, got float32 \[2\]/,
  );
});

test.run();
