import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { devices, randomTensor } from '../testing.js';
import { HostNumber, Recording } from './recording.js';
import { scope } from './scope.js';
import { empty, full, tensor } from './tensor.js';

const test = suite('recording');

for (const device of devices) {
  test(`${device.name}: a replay computes from what its tensors and numbers hold by then`, () => {
    const before = device.statistics().live;
    const recording = new Recording(device);
    const x = tensor([1, 2, 3], [3], { device });
    const scale = new HostNumber(2);
    recording.begin('y');
    const y = recording.hold(
      scope(() => {
        const twice = empty([3], { device });
        device.kernels.affine(twice, x, scale, 0);
        const sum = empty([3], { device });
        device.kernels.binary_forward(sum, twice, x, Int32Array.of(3), Int32Array.of(1), Int32Array.of(1), 0);
        return sum;
      }),
    );
    recording.begin('x');
    device.kernels.fill(x, 0);
    recording.end();
    assert.equal([...y.toArray()], [3, 6, 9]);
    assert.equal([...x.toArray()], [0, 0, 0]);
    assert.ok(recording.plan());
    const { kernelCalls } = device.statistics();
    for (const [values, by] of [
      [[4, 5, 6], 1],
      [[1, 0, -1], 9],
    ] as const) {
      // prettier-ignore
      x.set(Float32Array.from(values));
      scale.value = by;
      // What is made and freed between two replays must not be their memory.
      const other = tensor([7, 7, 7], [3], { device });
      recording.replay('y');
      assert.equal([...y.toArray()], values.map((v) => by * v + v)); // prettier-ignore
      assert.equal([...other.toArray()], [7, 7, 7]);
      other.dispose();
      recording.replay('x');
      assert.equal([...x.toArray()], [0, 0, 0]);
    }
    assert.is(device.statistics().kernelCalls - kernelCalls, 2 * 3);
    x.dispose();
    recording.dispose();
    recording.dispose();
    assert.is(device.statistics().live, before);
  });

  test(`${device.name}: memory from outside lives as long as the recording that uses it`, () => {
    const before = device.statistics().live;
    const recording = new Recording(device);
    const [early, between] = [full([64], 1, { device }), empty([64], { device })];
    between.dispose(); // its block is free for the next that asks
    recording.begin('sum');
    const y = recording.hold(empty([64], { device }));
    device.kernels.add(y, early, early);
    early.dispose();
    recording.end();
    const late = full([64], 5, { device });
    recording.begin('difference');
    device.kernels.add(y, y, late);
    recording.end();
    late.dispose();
    assert.ok(recording.plan());
    // Of the size of those that were freed: they would get their memory.
    const others = [1, 2, 3].map(() => full([64], NaN, { device }));
    recording.replay('sum');
    recording.replay('difference');
    assert.equal([...y.toArray()], new Array(64).fill(7));
    for (const other of others) other.dispose();
    recording.dispose();
    assert.is(device.statistics().live, before);
  });

  test(`${device.name}: a tensor of one recording that another uses outlives the one`, () => {
    const before = device.statistics().live;
    const [one, other] = [new Recording(device), new Recording(device)];
    one.begin('x');
    const x = one.hold(full([64], 3, { device }));
    one.end();
    other.begin('y');
    const y = other.hold(empty([64], { device }));
    device.kernels.add(y, x, x);
    assert.ok(other.plan()); // ends the section
    device.kernels.fill(y, 0);
    one.dispose();
    const stranger = full([64], NaN, { device });
    other.replay('y');
    assert.equal([...y.toArray()], new Array(64).fill(6));
    stranger.dispose();
    other.dispose();
    assert.is(device.statistics().live, before);
  });

  test(`${device.name}: blocks whose lives do not meet share a place; no replay asks for more`, () => {
    const [rows, columns] = [40, 1000];
    const bytes = 4 * rows * columns;
    const start = device.statistics().live;
    const recording = new Recording(device);
    const x = randomTensor([rows, columns], 1, { device });
    recording.begin('chain');
    let y = x;
    for (let i = 0; i < 6; i++) {
      const next = empty([rows, columns], { device });
      device.kernels.affine(next, y, 2, 0);
      if (y !== x) y.dispose();
      y = next;
    }
    recording.begin('sums');
    const sums = recording.hold(empty([2], { device }));
    device.kernels.square_sums(sums, [y, x]);
    y.dispose();
    recording.end();
    const expected = [...sums.toArray()];
    device.configure({ trim: true });
    const before = device.statistics();
    assert.ok(recording.plan());
    const { live, systemAllocations } = device.statistics();
    const own = live - before.live;
    assert.ok(
      own >= 2 * bytes && own < 2.5 * bytes,
      `two of the six at a time, and what square_sums takes: ${own}`,
    );
    for (let i = 0; i < 3; i++) {
      device.kernels.fill(sums, NaN);
      recording.replay('chain');
      recording.replay('sums');
      assert.equal([...sums.toArray()], expected);
    }
    assert.is(device.statistics().systemAllocations, systemAllocations);
    x.dispose();
    recording.dispose();
    assert.is(device.statistics().live, start);
  });

  test(`${device.name}: without memory there is no plan, with it there is one`, () => {
    const recording = new Recording(device);
    const x = randomTensor([64], 1, { device });
    recording.begin('copy');
    const y = recording.hold(empty([64], { device }));
    scope(() => {
      device.kernels.copy(y, x.clone());
    });
    recording.end();
    device.configure({ trim: true });
    device.configure({ limit: device.statistics().live + 100 });
    try {
      assert.not(recording.plan());
    } finally {
      device.configure({ limit: 0 });
    }
    assert.ok(recording.plan());
    x.set(Float32Array.from({ length: 64 }, (_, i) => i));
    recording.replay('copy');
    assert.equal(y.toArray(), x.toArray());
    recording.dispose();
    x.dispose();
  });

  test(`${device.name}: what a replay could not do is an error`, () => {
    const recording = new Recording(device);
    const x = tensor([1], [1], { device });
    recording.begin('once');
    assert.throws(() => x.item(), /a copy from or to the host while work is recorded/);
    assert.throws(() => {
      x.set(Float32Array.of(1));
    }, /a copy from or to the host while work is recorded/);
    const other = new Recording(device);
    assert.throws(() => {
      other.begin('of another');
    }, /another recording is under way/);
    other.dispose();
    assert.throws(() => {
      recording.replay('once');
    }, /no section to replay/);
    recording.end();
    assert.throws(() => {
      recording.replay('once');
    }, /no section to replay/);
    assert.throws(() => {
      recording.begin('once');
    }, /section once was recorded before/);
    assert.throws(() => {
      recording.replay('twice');
    }, /no section twice was recorded/);
    assert.is(x.item(), 1);
    assert.ok(recording.plan());
    assert.throws(() => {
      recording.begin('late');
    }, /it notes nothing more/);
    const around = new Recording(device);
    around.begin('with a replay inside');
    assert.throws(() => {
      recording.replay('once');
    }, /a replay while other work is recorded/);
    around.dispose();
    recording.dispose();
    assert.throws(() => {
      recording.replay('once');
    }, /no such recording/);
    x.dispose();
  });

  test(`${device.name}: a number that is no integer where one is expected is an error at its replay`, () => {
    const recording = new Recording(device);
    const x = randomTensor([8], 1, { device });
    const step = new HostNumber(3);
    recording.begin('dropout');
    const y = recording.hold(empty([8], { device }));
    device.kernels.dropout(y, x, 0.5, 1, step, 0);
    recording.end();
    const third = [...y.toArray()];
    assert.ok(recording.plan());
    step.value = 0.5;
    assert.throws(() => {
      recording.replay('dropout');
    }, /dropout: expected an integer, got 0.5/);
    step.value = 3;
    recording.replay('dropout');
    assert.equal([...y.toArray()], third);
    recording.dispose();
    x.dispose();
  });
}

test.run();
