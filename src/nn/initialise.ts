/** Initial values, drawn by Philox: the i-th tensor of a seed is the same on every device. */
import { OutOfMemoryError } from '../tensor/errors.js';
import { Draws, purposes } from '../tensor/philox.js';
import { formatShape, sizeOf, type Shape } from '../tensor/shape.js';
import { full, parameter, tensor, type Tensor, type TensorOptions } from '../tensor/tensor.js';

function hostMemory(shape: Shape): Float32Array {
  try {
    return new Float32Array(sizeOf(shape));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new OutOfMemoryError(`expected memory for parameters ${formatShape(shape)}, found less`);
  }
}

/** Makes parameters one after another; the order in which a network is built decides which draw each gets. */
export class Initialiser {
  #count = 0;
  /**
   * @param seed an integer below 2^53
   * @param options where parameters are, and their type: float32 on cpu when left out
   * @param drawn false: zeros, for parameters that a checkpoint sets; a million prototypes take a minute to draw
   */
  constructor(
    readonly seed: number,
    readonly options: TensorOptions = {},
    readonly drawn = true,
  ) {}

  /** Normal with mean 0. */
  normal(shape: Shape, deviation: number): Tensor {
    if (!this.drawn) return this.constant(shape, 0);
    const draws = new Draws(this.seed, purposes.initialise, 0, this.#count++);
    const values = hostMemory(shape);
    for (let i = 0; i < values.length; i++) values[i] = deviation * draws.normal();
    return parameter(tensor(values, shape, { dtype: 'float32', label: 'parameters', ...this.options }));
  }

  /** Normal with variance 2 / fan-in (He et al. 2015); the first dimension of a weight counts its outputs. */
  kaiming(shape: Shape): Tensor {
    return this.normal(shape, Math.sqrt(2 / sizeOf(shape.slice(1))));
  }

  /** One value for all elements. */
  constant(shape: Shape, value: number): Tensor {
    return parameter(full(shape, value, { label: 'parameters', ...this.options }));
  }
}
