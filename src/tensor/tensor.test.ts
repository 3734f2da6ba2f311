import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose, devices, randomTensor } from '../testing.js';
import { marginSoftmax } from '../autograd/ops/margin-softmax.js';
import { device as deviceOf, deviceNames, whyUnavailable } from './device.js';
import { dtypes } from './dtype.js';
import { OutOfMemoryError, ShapeError, UserError } from './errors.js';
import { broadcastShape, stridesOf } from './shape.js';
import { keep, scope } from './scope.js';
import { empty, full, tensor, zeros, type Tensor } from './tensor.js';

const test = suite('tensor');

for (const device of devices) {
  const live = () => device.statistics().live;

  test(`values go to ${device.name} and come back in every type`, () => {
    scope(() => {
      for (const dtype of dtypes) {
        if (dtype === 'float64' && device.name !== 'cpu') continue;
        const t = tensor([3, 1, 2, 250], [2, 2], { dtype, device });
        assert.equal(Array.from(t.toArray()), [3, 1, 2, 250], dtype); // all exact in eight bits of mantissa
        assert.equal(Array.from(t.clone().toArray()), [3, 1, 2, 250], dtype);
        assert.equal(tensor([], [0, 3], { dtype, device }).toArray().length, 0);
      }
      assertClose(full([3], -1.5, { device }).toArray(), [-1.5, -1.5, -1.5], 0);
      assert.is(full([], 7, { device }).item(), 7);
    });
  });

  test(`bfloat16 on ${device.name} rounds to nearest even and keeps NaN and infinities`, () => {
    scope(() => {
      // Between 1 and 1 + 2^-7 (neighbours in bfloat16): half way goes to the even one, 1; above half way goes up.
      const t = tensor([1 + 2 ** -8, 1 + 2 ** -8 + 2 ** -20, 1 + 3 * 2 ** -8, NaN, -Infinity], [5], {
        dtype: 'bfloat16',
        device,
      });
      assertClose(t.toArray(), [1, 1 + 2 ** -7, 1 + 2 ** -6, NaN, -Infinity], 0);
      assert.is(t.toBits()[0], 0x3f80);
    });
  });

  test(`a view shares memory on ${device.name}, which lives until the last of them goes`, () => {
    const before = live();
    const t = tensor([1, 2, 3, 4], [4], { device });
    const held = live() - before;
    const v = t.view([2, 2]);
    assert.is(live() - before, held);
    assert.throws(() => t.view([3]), /expected a shape of 4 elements/); // and takes no share
    v.set(Float32Array.of(5, 6, 7, 8));
    assertClose(t.toArray(), [5, 6, 7, 8], 0);
    t.dispose();
    t.dispose(); // twice is harmless, and does not take the view's share
    assert.is(live() - before, held);
    assertClose(v.toArray(), [5, 6, 7, 8], 0);
    v.dispose();
    assert.is(live(), before);
    assert.throws(() => v.toArray(), /a tensor of tensor was used after it was freed/);
    assert.throws(() => v.view([4]), /retained after it was freed/);
    assert.throws(() => {
      device.kernels.fill(t, 1);
    }, /used after it was freed/);
  });

  test(`scopes on ${device.name} free all but what leaves them`, () => {
    const before = live();
    const made: Tensor[] = [];
    const make = () => {
      const t = zeros([100], { device });
      made.push(t);
      return t;
    };
    const kept = scope(() => {
      const inner = scope(() => {
        make();
        return { list: [make(), make()], count: 2 };
      });
      assert.equal(
        made.map((t) => t.disposed),
        [true, false, false],
      );
      const [a, b] = inner.list;
      assert.ok(a && b);
      make();
      keep(make());
      return b;
    });
    assert.equal(
      made.map((t) => t.disposed),
      [true, true, false, true, false],
    );
    assert.is(kept, made[2]);
    for (const t of made) t.dispose();
    assert.throws(
      () =>
        scope(() => {
          make();
          throw new Error('midway');
        }),
      /midway/,
    );
    assert.is(live(), before);
  });

  test(`lack of memory on ${device.name} names request, live bytes and the largest holders`, () => {
    device.configure({ trim: true });
    const big = zeros([1 << 18], { device, label: 'activations' });
    const small = zeros([1 << 10], { device, label: 'labels' });
    device.configure({ limit: live() + (1 << 16) });
    try {
      const ask = () => empty([300, 1000], { device, label: 'conv2d y' });
      assert.throws(ask, (e: unknown) => e instanceof OutOfMemoryError && e instanceof UserError);
      // So many bytes that their number needs more than 64 bits.
      const vast = () => empty([2 ** 31, 2 ** 31, 4], { device });
      assert.throws(vast, (e: unknown) => e instanceof OutOfMemoryError);
      assert.throws(
        ask,
        new RegExp(
          `out of memory on ${device.name}: conv2d y wanted 1.14 MiB, 1[.\\d]* MiB are live, with a limit of 1[.\\d]* MiB; ` +
            'the largest holders are activations 1 MiB \\(1\\), labels 4 KiB \\(1\\)',
        ),
      );
      // What fits still does, and blocks kept for reuse give way to a request of another size.
      empty([1 << 13], { device }).dispose();
      empty([1 << 12], { device }).dispose();
      empty([(1 << 14) - 64], { device }).dispose();
    } finally {
      device.configure({ limit: 0 });
      big.dispose();
      small.dispose();
    }
  });

  test(`memory that a kernel lacks on ${device.name} is explained, and nothing leaks`, () => {
    const before = live();
    scope(() => {
      const g = randomTensor([64, 64], 1, { device });
      const w = randomTensor([512, 64], 2, { device });
      const labels = tensor(new Int32Array(64), [64], { device });
      scope(() => {
        marginSoftmax(g, w, labels);
      });
      device.configure({ trim: true });
      device.configure({ limit: live() + 2048 });
      try {
        assert.throws(
          () => scope(() => marginSoftmax(g, w, labels).loss),
          /out of memory on .*: temporary memory of margin_softmax_forward wanted .* KiB/,
        );
      } finally {
        device.configure({ limit: 0 });
      }
    });
    assert.is(live(), before);
  });

  test(`the same requests again take nothing more from the system of ${device.name}`, () => {
    const work = () => {
      scope(() => {
        for (const n of [10, 1000, 100000]) zeros([n], { device }).clone();
      });
    };
    work();
    const { systemAllocations } = device.statistics();
    for (let i = 0; i < 100; i++) work();
    assert.is(device.statistics().systemAllocations, systemAllocations);
  });
}

test('wrong sizes and types are refused with what was expected and found', () => {
  scope(() => {
    const t = zeros([2, 3]);
    const refuse = (f: () => unknown, message: RegExp) => {
      assert.throws(f, (e: unknown) => e instanceof ShapeError && message.test(e.message));
    };
    refuse(() => tensor([1, 2], [3]), /tensor: expected 3 values for \[3\], got 2/);
    refuse(() => zeros([2, -1]), /expected a shape of whole numbers, got \[2, -1\]/);
    refuse(() => t.view([4]), /expected a shape of 6 elements, got \[4\]/);
    refuse(() => t.view([-2, -3]), /expected a shape of 6 elements, got \[-2, -3\]/);
    refuse(() => t.view([1.5, 4]), /expected a shape of 6 elements, got \[1.5, 4\]/);
    refuse(() => t.item(), /item: expected one element, got float32 \[2, 3\]/);
    refuse(() => t.dim(2), /dim: expected an axis of \[2, 3\], got 2/);
    refuse(() => {
      t.set(new Float32Array(5));
    }, /set: expected 6 elements of float32, got 5 of Float32Array/);
    refuse(() => {
      t.set(new Float64Array(6));
    }, /set: expected 6 elements of float32, got 6 of Float64Array/);
    refuse(
      () => broadcastShape('add', [2, 3], [2]),
      /add: expected shapes that broadcast, got \[2, 3\] and \[2\]/,
    );
  });
  assert.equal(broadcastShape('add', [4, 1, 3], [5, 1]), [4, 5, 3]);
  assert.equal(broadcastShape('add', [0, 3], [1]), [0, 3]);
  assert.equal(stridesOf([4, 5, 3]), [15, 3, 1]);
});

test('a type that there is not is refused by name', () => {
  assert.throws(
    () => zeros([2], { dtype: 'float16' as 'float32' }),
    (e: unknown) =>
      e instanceof UserError &&
      e.message === 'zeros: expected a type of float32, bfloat16, float64, int32, uint8, got float16',
  );
});

test('a scope refuses an asynchronous function, and frees what it made', () => {
  let made: Tensor | undefined;
  const later = async () => {
    made = zeros([2]);
    await Promise.resolve();
  };
  assert.throws(
    () => scope(later as () => void),
    /scope: expected a function that is done when it returns, got an asynchronous one/,
  );
  assert.ok(made?.disposed);
});

test('values in shared memory and subclasses of the typed arrays are taken', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(3)).fill(7);
  assert.equal([...tensor(shared).toArray()], [7, 7, 7]);
  assert.equal([...tensor(Buffer.from([1, 2])).toArray()], [1, 2]);
});

test('a device that cannot be used says why; float64 exists on cpu only', () => {
  for (const name of deviceNames) {
    const reason = whyUnavailable(name);
    if (reason !== undefined)
      assert.throws(() => deviceOf(name), new RegExp(`device ${name} cannot be used here: .`));
    else if (name !== 'cpu')
      assert.throws(
        () => zeros([1], { device: name, dtype: 'float64' }),
        new RegExp(`float64 tensors exist on cpu only, not on ${name}`),
      );
  }
});

test.run();
