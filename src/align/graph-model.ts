/**
 * Runs a network stored as a TensorFlow.js graph model (a .json with the graph, a .bin with the weights) on turl's own kernels.
 * Only what small convolutional networks consist of is known: convolution, depthwise convolution, bias, ReLU, PReLU, addition,
 * max pooling, zero padding, sigmoid, reshape. Images are NHWC there as here.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { noGrad } from '../autograd/tape.js';
import { add } from '../autograd/ops/binary.js';
import { conv2d } from '../autograd/ops/conv2d.js';
import { maxPool2d } from '../autograd/ops/pooling.js';
import { prelu } from '../autograd/ops/prelu.js';
import { stridedCopy } from '../autograd/ops/shape.js';
import { relu, sigmoid } from '../autograd/ops/unary.js';
import { UserError } from '../tensor/errors.js';
import type { Device } from '../tensor/device.js';
import { scope } from '../tensor/scope.js';
import { sizeOf, stridesOf } from '../tensor/shape.js';
import { tensor, zeros, type Tensor } from '../tensor/tensor.js';

interface Attribute {
  readonly s?: string;
  readonly list?: { readonly i?: readonly string[]; readonly s?: readonly string[] };
}

interface Node {
  readonly name: string;
  readonly op: string;
  readonly input?: readonly string[];
  readonly attr?: Readonly<Record<string, Attribute>>;
}

interface StoredWeight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: 'float32' | 'int32';
  readonly quantization?: { readonly dtype: 'float16' };
}

interface GraphFile {
  readonly modelTopology: { readonly node: readonly Node[] };
  readonly weightsManifest: readonly {
    readonly paths: readonly string[];
    readonly weights: readonly StoredWeight[];
  }[];
}

interface Weight {
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array;
}

/** The number that IEEE half-precision bits stand for. */
function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

function readWeights(file: string, { weightsManifest }: GraphFile): Map<string, Weight> {
  const weights = new Map<string, Weight>();
  for (const { paths, weights: entries } of weightsManifest) {
    const bytes = Buffer.concat(paths.map((path) => readFileSync(join(dirname(file), path))));
    let at = 0;
    for (const { name, shape, dtype, quantization } of entries) {
      const width = quantization ? 2 : 4;
      const size = sizeOf(shape);
      if (at + size * width > bytes.length)
        throw new UserError(
          `${file}: expected weights of ${name} at byte ${at}, found the end of ${paths.join()}`,
        );
      const read = (i: number): number => {
        const place = at + i * width;
        if (quantization) return fromHalf(bytes.readUInt16LE(place));
        return dtype === 'int32' ? bytes.readInt32LE(place) : bytes.readFloatLE(place);
      };
      const values = dtype === 'int32' ? new Int32Array(size) : new Float32Array(size);
      for (let i = 0; i < size; i++) values[i] = read(i);
      weights.set(name, { shape, values });
      at += size * width;
    }
  }
  return weights;
}

/** Filters as turl's kernels want them: [out, h, w, in] from [h, w, in, out], and [channels, h, w, 1] from depthwise [h, w, channels, 1]. */
function filters({ shape, values }: Weight, depthwise: boolean): { shape: number[]; values: Float32Array } {
  const [h = 0, w = 0, inputs = 0, outputs = 0] = shape;
  const [filterCount, depth] = depthwise ? [inputs * outputs, 1] : [outputs, inputs];
  const moved = new Float32Array(values.length);
  const area = h * w;
  for (let o = 0; o < filterCount; o++)
    for (let p = 0; p < area; p++)
      for (let c = 0; c < depth; c++)
        moved[(o * area + p) * depth + c] = values[(p * depth + c) * filterCount + o] ?? 0;
  return { shape: [filterCount, h, w, depth], values: moved };
}

const decode = (text: string | undefined): string => Buffer.from(text ?? '', 'base64').toString();

/** Zeros around x [B, H, W, C], before and after each axis. */
function pad(x: Tensor, amounts: readonly (readonly [number, number])[]): Tensor {
  if (amounts.every(([before, after]) => before === 0 && after === 0)) return x;
  const shape = x.shape.map((n, i) => n + (amounts[i]?.[0] ?? 0) + (amounts[i]?.[1] ?? 0));
  const strides = stridesOf(shape);
  const y = zeros(shape, { dtype: x.dtype, device: x.device, label: 'pad' });
  const offset = amounts.reduce((sum, [before], i) => sum + before * (strides[i] ?? 0), 0);
  stridedCopy(y, x, x.shape, strides, stridesOf(x.shape), offset);
  return y;
}

/** TensorFlow's SAME: the output is the input's size divided by the stride; of an odd sum of padding, more comes after. */
function same(x: Tensor, kernel: readonly number[], stride: number): [number, number][] {
  const along = (axis: number): [number, number] => {
    const n = x.dim(axis);
    const total = Math.max(0, (Math.ceil(n / stride) - 1) * stride + (kernel[axis - 1] ?? 0) - n);
    return [total >> 1, total - (total >> 1)];
  };
  return [[0, 0], along(1), along(2), [0, 0]];
}

/** A network ready to run. Free it with dispose(). */
export class GraphModel {
  readonly #nodes: readonly Node[];
  readonly #weights: Map<string, Weight>;
  readonly #tensors = new Map<string, Tensor>();

  /** @throws UserError for a file that is not such a model, or has an operation that is not known here */
  constructor(
    readonly file: string,
    readonly device: Device,
  ) {
    let graph: GraphFile;
    try {
      graph = JSON.parse(readFileSync(file, 'utf8')) as GraphFile;
    } catch (error) {
      throw new UserError(`${file}: expected a TensorFlow.js graph model, found none`, { cause: error });
    }
    this.#weights = readWeights(file, graph);
    this.#nodes = graph.modelTopology.node.filter(({ op }) => op !== 'Const');
    for (const { op, name, input = [] } of this.#nodes) {
      if (!(op in operations)) throw new UserError(`${file}: the operation ${op} of ${name} is not known`);
      const depthwise = op === 'DepthwiseConv2dNative';
      if (depthwise || op === '_FusedConv2D') {
        this.#keep(input[1] ?? '', (weight) => filters(weight, depthwise));
        for (const other of input.slice(2)) this.#keep(other, flat);
      } else if (op === 'Prelu') this.#keep(input[1] ?? '', flat);
    }
  }

  #keep(name: string, arrange: (weight: Weight) => { shape: readonly number[]; values: Float32Array }): void {
    const weight = this.#weights.get(name);
    if (!weight) throw new UserError(`${this.file}: expected the weights ${name}, found none`);
    const { shape, values } = arrange(weight);
    this.#tensors.set(name, tensor(values, shape, { device: this.device, label: 'graph model' }));
  }

  /** The outputs, by name, for images float32 [B, H, W, 3]. */
  run(images: Tensor): Map<string, Float32Array> {
    return noGrad(() => {
      const results = new Map<string, Float32Array>();
      scope(() => {
        const values = new Map(this.#tensors);
        const uses = new Map<string, number>();
        for (const { input = [] } of this.#nodes)
          for (const name of input) uses.set(name, (uses.get(name) ?? 0) + 1);
        for (const { name, op, input = [], attr = {} } of this.#nodes) {
          const [x = images, ...rest] = input.map((one) => values.get(one));
          const operation = operations[op];
          if (!operation) throw new Error(`no operation ${op}`);
          const last = this.#weights.get(input.at(-1) ?? '')?.values ?? new Int32Array(0);
          const y = scope(() => operation({ x, rest: rest.filter((t) => t !== undefined), last, attr }));
          values.set(name, y);
          if (op === 'Identity') results.set(name, Float32Array.from(y.toArray()));
          // What nobody uses any more makes room.
          for (const one of input) {
            const left = (uses.get(one) ?? 0) - 1;
            uses.set(one, left);
            const value = values.get(one);
            if (left === 0 && value !== images && !this.#tensors.has(one)) value?.dispose();
          }
        }
      });
      return results;
    });
  }

  dispose(): void {
    for (const t of this.#tensors.values()) t.dispose();
  }
}

const flat = ({ values }: Weight) => ({ shape: [values.length], values: Float32Array.from(values) });

interface Call {
  readonly x: Tensor;
  /** Further inputs that are tensors. */
  readonly rest: readonly Tensor[];
  /** The last input where it is a constant, such as paddings. */
  readonly last: ArrayLike<number>;
  readonly attr: Readonly<Record<string, Attribute>>;
}

const strideOf = (attr: Call['attr']): number => Number(attr['strides']?.list?.i?.[1] ?? 1);

function convolve({ x, rest, attr }: Call, groups: number): Tensor {
  const [weight, bias, slope] = rest;
  if (!weight) throw new Error('a convolution without weights');
  const stride = strideOf(attr);
  const kernel = weight.shape.slice(1, 3);
  const padded = decode(attr['padding']?.s) === 'SAME' ? pad(x, same(x, kernel, stride)) : x;
  const y = conv2d(padded, weight, { stride, groups });
  const biased = bias ? add(y, bias) : y;
  const activation = (attr['fused_ops']?.list?.s ?? []).map(decode).at(-1);
  if (activation === 'Relu') return relu(biased);
  return activation === 'Prelu' && slope ? prelu(biased, slope) : biased;
}

const pairs = (values: ArrayLike<number>): [number, number][] =>
  Array.from({ length: values.length / 2 }, (_, i) => [values[2 * i] ?? 0, values[2 * i + 1] ?? 0]);

const operations: Readonly<Record<string, (call: Call) => Tensor>> = {
  Placeholder: ({ x }) => x,
  Identity: ({ x }) => x,
  _FusedConv2D: (call) => convolve(call, 1),
  DepthwiseConv2dNative: (call) => convolve(call, call.x.dim(3)),
  AddV2: ({ x, rest }) => add(x, rest[0] ?? x),
  Relu: ({ x }) => relu(x),
  Prelu: ({ x, rest }) => (rest[0] ? prelu(x, rest[0]) : x),
  MaxPool: ({ x, attr }) =>
    maxPool2d(x, { kernel: Number(attr['ksize']?.list?.i?.[1] ?? 2), stride: strideOf(attr) }),
  Pad: ({ x, last }) => pad(x, pairs(last)),
  Sigmoid: ({ x }) => sigmoid(x),
  Reshape: ({ x }) => x.view([x.dim(0), x.size / x.dim(0)]),
};
