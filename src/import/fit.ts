/**
 * Gives the units of a foreign network to a network of turl's of the same architecture: layer by layer in the order in which they
 * compute, every shape checked. ONNX files often have batch normalisation folded into the convolution before it; its layer here then
 * adds the bias and leaves the rest as it is.
 */
import { defaultBatchNormEpsilon } from '../autograd/ops/batch-norm.js';
import type { Backbone } from '../nn/backbone.js';
import { Block } from '../nn/iresnet.js';
import { BatchNorm, BatchNormPReLU, Convolution, Sequential, type Layer, type Linear } from '../nn/layers.js';
import { Bottleneck } from '../nn/mobilefacenet.js';
import { UserError } from '../tensor/errors.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Unit } from './units.js';

export interface FitOptions {
  /** The file, for messages. */
  file: string;
  /** The order of the colours that the network was trained on; turl's is RGB. */
  colour: 'RGB' | 'BGR';
}

export function fitUnits(backbone: Backbone, units: readonly Unit[], { file, colour }: FitOptions): void {
  let at = 0;
  // Of the convolution or linear layer before.
  let bias: Float32Array | undefined;
  let folded = false;
  let channels = 0;
  let first = true;

  const fail = (what: string, found: string): never => {
    throw new UserError(`${file}: expected ${what}, found ${found}`);
  };
  const describe = (unit: Unit | undefined) => {
    if (!unit) return 'no more layers';
    const { shape } = unit.kind === 'weight' ? unit.weight : unit.kind === 'prelu' ? unit.slope : unit.gamma;
    return `${unit.name} (${unit.kind} [${shape.join(', ')}])`;
  };
  const set = (t: Tensor, values: Float32Array, what: string, found: string) => {
    if (values.length !== t.size) fail(`${what} of ${t.size} numbers`, `${values.length} in ${found}`);
    t.set(values);
  };

  const convolution = (layer: Convolution) => {
    const unit = units[at];
    const [outputs, height, width, inputs] = [0, 1, 2, 3].map((axis) => layer.weight.dim(axis)) as [
      number,
      number,
      number,
      number,
    ];
    const what = `a convolution [${outputs}, ${inputs}, ${height}, ${width}]`;
    if (unit?.kind !== 'weight') return fail(what, describe(unit));
    if (unit.weight.shape.join() !== [outputs, inputs, height, width].join()) fail(what, describe(unit));
    const from = unit.weight.values;
    const to = new Float32Array(from.length);
    let i = 0;
    for (let o = 0; o < outputs; o++)
      for (let c = 0; c < inputs; c++) {
        const plane = first && colour === 'BGR' ? inputs - 1 - c : c;
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width; x++)
            to[((o * height + y) * width + x) * inputs + plane] = from[i++] ?? 0;
      }
    layer.weight.set(to);
    first = false;
    bias = unit.bias?.values;
    folded = unit.folded;
    channels = outputs;
    at++;
  };

  const batchNorm = (layer: BatchNorm) => {
    const unit = units[at];
    const what = 'batch normalisation';
    const size = layer.gamma.size;
    const { epsilon = defaultBatchNormEpsilon } = layer.options;
    const fill = (value: number) => new Float32Array(size).fill(value);
    if (folded) {
      set(layer.beta, bias ?? fill(0), 'a bias', describe(units[at - 1]));
      layer.gamma.set(fill(1));
      layer.mean.set(fill(0));
      layer.variance.set(fill(1 - epsilon));
    } else {
      if (unit?.kind !== 'batch norm') return fail(what, describe(unit));
      const found = describe(unit);
      set(layer.gamma, unit.gamma.values, what, found);
      set(layer.beta, unit.beta.values, what, found);
      // A bias before it only moves the mean.
      const shift = bias;
      set(
        layer.mean,
        shift ? unit.mean.values.map((m, i) => m - (shift[i] ?? 0)) : unit.mean.values,
        what,
        found,
      );
      set(
        layer.variance,
        unit.variance.values.map((v) => v + unit.epsilon - epsilon),
        what,
        found,
      );
      at++;
    }
    [bias, folded] = [undefined, false];
  };

  const prelu = (slope: Tensor) => {
    const unit = units[at];
    if (unit?.kind !== 'prelu') return fail(`PReLU [${slope.size}]`, describe(unit));
    const { values } = unit.slope;
    set(
      slope,
      values.length === 1 ? new Float32Array(slope.size).fill(values[0] ?? 0) : values,
      'PReLU',
      describe(unit),
    );
    at++;
  };

  /** Weight [D, F], F in the order channels, rows, columns there and rows, columns, channels here. */
  const linear = (layer: Linear) => {
    const unit = units[at];
    const [outputs, length] = [layer.weight.dim(0), layer.weight.dim(1)];
    const what = `a linear layer [${outputs}, ${length}]`;
    if (unit?.kind !== 'weight') return fail(what, describe(unit));
    const { shape, values } = unit.weight;
    if (shape[0] !== outputs || values.length !== outputs * length) fail(what, describe(unit));
    const to = new Float32Array(values.length);
    const positions = length / channels;
    let i = 0;
    for (let o = 0; o < outputs; o++)
      for (let c = 0; c < channels; c++)
        for (let p = 0; p < positions; p++) to[o * length + p * channels + c] = values[i++] ?? 0;
    layer.weight.set(to);
    [bias, folded] = [unit.bias?.values, unit.folded];
    if (layer.bias) {
      set(layer.bias, bias ?? new Float32Array(outputs), 'a bias', describe(unit));
      bias = undefined;
    }
    at++;
  };

  const layer = (one: Layer): void => {
    if (one instanceof Sequential) one.layers.forEach(layer);
    else if (one instanceof Convolution) convolution(one);
    else if (one instanceof BatchNorm) batchNorm(one);
    else if (one instanceof BatchNormPReLU) {
      batchNorm(one.normalise);
      prelu(one.slope);
    } else if (one instanceof Block) {
      layer(one.residual);
      batchNorm(one.normalise);
      if (one.shortcut) layer(one.shortcut);
    } else if (one instanceof Bottleneck) layer(one.path);
    else throw new Error(`no import of ${one.constructor.name}`);
  };

  backbone.body.forEach(layer);
  linear(backbone.embed);
  batchNorm(backbone.normalise);
  if (at < units.length) fail(`${at} layers`, `${units.length - at} more, the first ${describe(units[at])}`);
}
