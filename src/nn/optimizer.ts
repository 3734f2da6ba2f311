import { check, UserError } from '../tensor/errors.js';
import { HostNumber } from '../tensor/recording.js';
import { sameShape } from '../tensor/shape.js';
import { full, zeros, type Tensor } from '../tensor/tensor.js';

/** Stochastic gradient descent. */
export interface SgdOptions {
  name: 'sgd';
  /** 0.9 when left out. */
  momentum?: number;
  /** Times the parameter, added to its gradient; 0 when left out. */
  weightDecay?: number;
}
/** AdamW (Loshchilov & Hutter 2019). */
export interface AdamWOptions {
  name: 'adamw';
  /** Decay of the running mean of the gradient and of its square; 0.9 and 0.999 when left out. */
  betas?: readonly [number, number];
  /** Added to the root of the mean square; 1e-8 when left out. */
  epsilon?: number;
  /** Times the rate and the parameter, subtracted from it; 0 when left out. */
  weightDecay?: number;
}
/** Which optimiser, and its numbers. */
export type OptimizerOptions = SgdOptions | AdamWOptions;

/**
 * SGD with momentum or AdamW, one fused kernel for many parameters. Weight decay applies to matrices and filters only:
 * tensors of rank 0 and 1 (batch normalisation, biases, PReLU slopes) have none.
 */
export class Optimizer {
  readonly #slots: Map<string, Tensor>;
  readonly #squares: Tensor;
  readonly #scale: Tensor;
  readonly #rate = new HostNumber();
  readonly #steps = new HostNumber();
  /** Those whose gradients were measured last. */
  #measured: readonly string[] = [];

  /** @param parameters by name, each once; all on one device. The optimiser's state takes one (SGD) or two (AdamW) tensors for each. */
  constructor(
    readonly parameters: ReadonlyMap<string, Tensor>,
    readonly options: OptimizerOptions,
  ) {
    const [first] = parameters.values();
    if (!first) throw new UserError('an optimiser expects at least one parameter, found none');
    const names = new Map<Tensor, string>();
    for (const [name, p] of parameters) {
      const other = names.get(p);
      if (other !== undefined)
        throw new UserError(`an optimiser expects each parameter once, found one as ${other} and as ${name}`);
      names.set(p, name);
    }
    const { device } = first;
    this.#slots = new Map();
    for (const [name, { shape, dtype }] of parameters)
      for (const slot of options.name === 'sgd' ? ['momentum'] : ['mean', 'variance'])
        this.#slots.set(`${name}.${slot}`, zeros(shape, { dtype, device, label: 'optimizer' }));
    this.#squares = zeros([parameters.size], { device, label: 'optimizer' });
    this.#scale = full([1], 1, { device, label: 'optimizer' });
  }

  /** Computes the norm of the gradients on the device, for `gradientNorm` and `clip`. */
  measureGradients(): void {
    const learned = this.#learned();
    this.#measured = learned.map(({ name }) => name);
    this.#squares.device.kernels.square_sums(
      this.#squares,
      learned.map(({ grad }) => grad),
    );
  }

  /**
   * The norm of all gradients together, as measured last; waits for the device.
   * @throws UserError naming the parameter whose gradient holds a NaN or an infinity.
   */
  gradientNorm(): number {
    const squares = this.#squares.toArray();
    let total = 0;
    for (let i = 0; i < this.#measured.length; i++) {
      const square = squares[i] as number;
      if (!Number.isFinite(square))
        throw new UserError(`the gradient of ${this.#measured[i] as string} is not finite`);
      total += square;
    }
    return Math.sqrt(total);
  }

  /** The parameters that have a gradient. */
  #learned(): { name: string; p: Tensor; grad: Tensor }[] {
    return [...this.parameters].flatMap(([name, p]) => {
      const { grad } = p;
      if (!grad) return [];
      check(
        sameShape(grad.shape, p.shape) && grad.dtype === p.dtype,
        'optimizer',
        () => `a gradient of ${name} like ${p.toString()}`,
        () => grad.toString(),
      );
      return [{ name, p, grad }];
    });
  }

  /** From now on gradients are multiplied so that a norm beyond `maxNorm` becomes `maxNorm`; uses what was measured last. */
  clip(maxNorm: number): void {
    this.#scale.device.kernels.clip_scale(this.#scale, this.#squares, maxNorm);
  }

  /** Updates every parameter that has a gradient, and frees the gradients. */
  step(lr: number): void {
    this.advance(lr);
    this.apply();
  }

  /** What an update needs of the host: its rate and number. */
  advance(lr: number): void {
    this.#rate.value = lr;
    this.steps++;
  }

  /** What an update does on the device: `step` without `advance`. */
  apply(): void {
    const { options } = this;
    const { kernels } = this.#scale.device;
    const [lr, count] = [this.#rate, this.#steps];
    const learned = this.#learned();
    for (const decayed of [true, false]) {
      const some = learned.filter(({ p }) => p.rank >= 2 === decayed);
      const [p, g] = [some.map((one) => one.p), some.map(({ grad }) => grad)];
      const slots = (kind: string) => some.map(({ name }) => this.#slots.get(`${name}.${kind}`) as Tensor);
      const decay = decayed ? (options.weightDecay ?? 0) : 0;
      if (options.name === 'sgd') {
        const v = slots('momentum');
        kernels.sgd_step(p, v, p, v, g, this.#scale, lr, options.momentum ?? 0.9, decay);
      } else {
        const [m, v] = [slots('mean'), slots('variance')];
        const [beta1, beta2] = options.betas ?? [0.9, 0.999];
        const epsilon = options.epsilon ?? 1e-8;
        // prettier-ignore
        kernels.adamw_step(p, m, v, p, m, v, g, this.#scale, lr, beta1, beta2, epsilon, decay, count);
      }
    }
    this.zeroGradients();
  }

  /** Frees the gradients of all parameters. */
  zeroGradients(): void {
    for (const p of this.parameters.values()) {
      p.grad?.dispose();
      p.grad = undefined;
    }
  }

  /** Updates so far. Part of the state of AdamW. */
  get steps(): number {
    return this.#steps.value;
  }
  set steps(steps: number) {
    this.#steps.value = steps;
  }

  /** Everything needed to continue, by name, beside `steps`. */
  state(): ReadonlyMap<string, Tensor> {
    return this.#slots;
  }

  /** Frees its state and the gradients; the parameters stay. */
  dispose(): void {
    this.zeroGradients();
    for (const slot of this.#slots.values()) slot.dispose();
    this.#squares.dispose();
    this.#scale.dispose();
  }
}
