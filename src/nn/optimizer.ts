/**
 * Optimisers: SGD with momentum and AdamW, one fused kernel per parameter. Weight decay applies to matrices and filters only:
 * tensors of rank 0 and 1 (batch normalisation, biases, PReLU slopes) have none.
 */
import { UserError } from '../tensor/errors.js';
import { full, zeros, type Tensor } from '../tensor/tensor.js';

export interface SgdOptions {
  name: 'sgd';
  momentum?: number;
  weightDecay?: number;
}
export interface AdamWOptions {
  name: 'adamw';
  betas?: readonly [number, number];
  epsilon?: number;
  weightDecay?: number;
}
export type OptimizerOptions = SgdOptions | AdamWOptions;

export class Optimizer {
  readonly #slots: Map<string, Tensor>;
  readonly #squares: Tensor;
  readonly #scale: Tensor;
  #steps = 0;

  /** @param parameters by name; all on one device. The optimiser's state takes one (SGD) or two (AdamW) tensors for each. */
  constructor(
    readonly parameters: ReadonlyMap<string, Tensor>,
    readonly options: OptimizerOptions,
  ) {
    const [first] = parameters.values();
    if (!first) throw new UserError('an optimiser expects at least one parameter, found none');
    const { device } = first;
    this.#slots = new Map();
    for (const [name, { shape, dtype }] of parameters)
      for (const slot of options.name === 'sgd' ? ['momentum'] : ['mean', 'variance'])
        this.#slots.set(`${name}.${slot}`, zeros(shape, { dtype, device, label: 'optimizer' }));
    this.#squares = zeros([parameters.size], { device, label: 'optimizer' });
    this.#scale = full([1], 1, { device, label: 'optimizer' });
  }

  /**
   * The norm of all gradients together, read back from the device.
   * @throws UserError naming the parameter whose gradient holds a NaN or an infinity.
   */
  gradientNorm(): number {
    let index = 0;
    for (const { grad, device } of this.parameters.values()) {
      if (grad) device.kernels.square_sum(this.#squares, grad, this.#squares, index);
      index++;
    }
    const squares = this.#squares.toArray();
    let total = 0;
    index = 0;
    for (const [name, { grad }] of this.parameters) {
      const square = squares[index++] as number;
      if (!Number.isFinite(square) && grad) throw new UserError(`the gradient of ${name} is not finite`);
      total += grad ? square : 0;
    }
    return Math.sqrt(total);
  }

  /** From now on gradients are multiplied so that a norm beyond `maxNorm` becomes `maxNorm`; uses the last `gradientNorm()`. */
  clip(maxNorm: number): void {
    this.#scale.device.kernels.clip_scale(this.#scale, this.#squares, maxNorm);
  }

  /** Updates every parameter that has a gradient, and frees the gradients. */
  step(lr: number): void {
    const { options } = this;
    this.#steps++;
    for (const [name, p] of this.parameters) {
      if (!p.grad) continue;
      const { kernels } = p.device;
      const decay = p.rank >= 2 ? (options.weightDecay ?? 0) : 0;
      const slot = (kind: string) => this.#slots.get(`${name}.${kind}`) as Tensor;
      if (options.name === 'sgd') {
        const v = slot('momentum');
        kernels.sgd_step(p, v, p, v, p.grad, this.#scale, lr, options.momentum ?? 0.9, decay);
      } else {
        const [m, v] = [slot('mean'), slot('variance')];
        const [beta1, beta2] = options.betas ?? [0.9, 0.999];
        const epsilon = options.epsilon ?? 1e-8;
        kernels.adamw_step(
          p,
          m,
          v,
          p,
          m,
          v,
          p.grad,
          this.#scale,
          lr,
          beta1,
          beta2,
          epsilon,
          decay,
          this.#steps,
        );
      }
    }
    this.zeroGradients();
  }

  zeroGradients(): void {
    for (const p of this.parameters.values()) {
      p.grad?.dispose();
      p.grad = undefined;
    }
  }

  /** Updates so far. Part of the state of AdamW. */
  get steps(): number {
    return this.#steps;
  }
  set steps(steps: number) {
    this.#steps = steps;
  }

  /** Everything needed to continue, by name, beside `steps`. */
  state(): ReadonlyMap<string, Tensor> {
    return this.#slots;
  }

  dispose(): void {
    this.zeroGradients();
    for (const slot of this.#slots.values()) slot.dispose();
    this.#squares.dispose();
    this.#scale.dispose();
  }
}
