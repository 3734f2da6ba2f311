import { check } from '../tensor/errors.js';
import { keep, onScopeCreate, refusePromise, scope } from '../tensor/scope.js';
import { full, type Tensor } from '../tensor/tensor.js';
import { sameShape } from '../tensor/shape.js';

/** From dy to the gradients of the inputs; `needs[i]` tells whether input i's is wanted. An entry may be undefined. */
export type Backward = (dy: Tensor, needs: readonly boolean[]) => readonly (Tensor | undefined)[];

export interface TapeNode {
  readonly op: string;
  readonly output: Tensor;
  readonly inputs: readonly Tensor[];
  readonly saved: readonly Tensor[];
  readonly backward: Backward;
  /** The gradient of the output, once one has arrived. */
  gradient: Tensor | undefined;
}

let recording: Tape | undefined;

/**
 * Called by an op after its kernel: makes `y` depend on `inputs`. `saved` lists the tensors that `backward` reads; their
 * memory is kept until then. Returns `y`. Without a tape, or when no input needs a gradient, nothing is recorded.
 */
export function record(
  op: string,
  y: Tensor,
  inputs: readonly Tensor[],
  saved: readonly Tensor[],
  backward: Backward,
): Tensor {
  if (!recording || !inputs.some((input) => input.requiresGrad)) return y;
  recording.add({ op, output: y, inputs, saved, backward, gradient: undefined });
  return y;
}

/**
 * For a backward function that adds on the way: takes the gradient that has arrived at `input` so far, if any, into the scope
 * around. What the function returns for `input` then includes it. Parameters keep theirs.
 */
export function takeGradient(input: Tensor): Tensor | undefined {
  const gradient = input.node?.gradient;
  if (!input.node || !gradient) return undefined;
  input.node.gradient = undefined;
  onScopeCreate(gradient);
  return gradient;
}

/** Whether operations are being recorded now. */
export function isRecording(): boolean {
  return recording !== undefined;
}

/** Runs `f`, which is not asynchronous, without recording. */
export function noGrad<T>(f: () => T): T {
  return recordingOn(undefined, f);
}

function recordingOn<T>(tape: Tape | undefined, f: () => T): T {
  const outer = recording;
  recording = tape;
  try {
    return refusePromise(tape ? 'record' : 'noGrad', f());
  } finally {
    recording = outer;
  }
}

/**
 * Reverse-mode differentiation. While a tape records, each operation adds a node: its inputs, what it saved, and a function
 * from the gradient of its output to the gradients of its inputs. `backward` visits the nodes in reverse, adds gradients that
 * meet at one tensor, and frees what a node saved as soon as it has been used.
 */
export class Tape {
  #nodes: TapeNode[] = [];

  /** Runs `f`, which is not asynchronous, recording its operations. A tape records once or several times, then goes backward once. */
  record<T>(f: () => T): T {
    try {
      return recordingOn(this, f);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Holds what `record` made of an operation. */
  add(node: TapeNode): void {
    for (const tensor of node.saved) tensor.storage.retain();
    node.output.requiresGrad = true;
    node.output.node = node;
    this.#nodes.push(node);
  }

  /**
   * Adds the gradient of `loss` with respect to every parameter it depends on to that parameter's `grad`. What was computed on the
   * tape needs no gradient from then on.
   * @param loss one element, or any shape together with `seed`, the gradient with respect to it, of its type and on its device.
   */
  backward(loss: Tensor, seed?: Tensor): void {
    const { node } = loss;
    const recorded = node !== undefined && this.#nodes.includes(node);
    check(recorded, 'backward', 'a tensor computed on the tape from parameters', () => loss.toString());
    const where = (t: Tensor) => `${t.toString()} on ${t.device.name}`;
    if (seed)
      check(
        sameShape(seed.shape, loss.shape) && seed.dtype === loss.dtype && seed.device === loss.device,
        'backward',
        () => `a seed like ${where(loss)}`,
        () => where(seed),
      );
    else check(loss.size === 1, 'backward', 'a loss of one element', () => loss.toString());
    try {
      noGrad(() => {
        scope(() => {
          // What a later tape computed from `loss` may have sent a gradient here already.
          arrive(loss, seed ? seed.clone() : full(loss.shape, 1, { dtype: loss.dtype, device: loss.device }));
        });
        while (this.#nodes.length > 0) this.#step(this.#nodes.pop() as TapeNode);
      });
    } finally {
      this.dispose();
    }
  }

  #step(node: TapeNode): void {
    const dy = node.gradient;
    try {
      if (dy)
        scope(() => {
          const needs = node.inputs.map((input) => input.requiresGrad);
          const gradients = node.backward(dy, needs);
          const taken = new Set([dy]);
          node.inputs.forEach((input, i) => {
            const gradient = gradients[i];
            if (!gradient || !needs[i]) return;
            check(
              sameShape(gradient.shape, input.shape),
              `${node.op} backward`,
              () => `a gradient like ${input.toString()}`,
              () => gradient.toString(),
            );
            arrive(input, taken.has(gradient) ? gradient.view(gradient.shape) : gradient);
            taken.add(gradient);
          });
        });
    } finally {
      finish(node);
    }
  }

  /** Frees everything the tape holds. `backward` does so by itself. */
  dispose(): void {
    this.#nodes.forEach(finish);
    this.#nodes = [];
  }
}

/** Frees what a node holds. Its output is a constant then: a gradient that still arrived there would go nowhere. */
function finish(node: TapeNode): void {
  node.gradient?.dispose();
  node.gradient = node.output.node = undefined;
  node.output.requiresGrad = false;
  for (const tensor of node.saved) tensor.storage.release();
}

/**
 * Adds a gradient to what has arrived at `input` already. The first one to arrive is taken over without a copy, so its memory
 * may be shared with other gradients; then the sum goes to new memory.
 */
function arrive(input: Tensor, gradient: Tensor): void {
  const { node } = input;
  const settle = (sum: Tensor) => {
    if (node) node.gradient = keep(sum);
    else input.grad = keep(sum);
  };
  const arrived = node ? node.gradient : input.grad;
  // A parameter's gradient is its own: the optimiser may change it in place.
  if (!arrived) return settle(!node && gradient.storage.shared ? gradient.clone() : gradient);
  const sum = arrived.storage.shared ? arrived.like('gradient') : arrived;
  arrived.device.kernels.add(sum, arrived, gradient);
  if (sum === arrived) return;
  arrived.dispose();
  settle(sum);
}
